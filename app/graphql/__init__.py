"""The second full door: GraphQL over the same queries, commands and events as REST."""
