"""The program of the MLflow image: the server and what looks after its database and its bucket."""
