"""Analytics: figures that follow from the events, kept as sums, so that reading them never scans tickets."""
