"""What any web service on MongoDB needs; knows nothing of users or tickets."""
