-- MLflow's own role and database, made once on an empty volume; the role can do nothing outside them.
\set password `cat /run/secrets/mlflow_database`
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
REVOKE CONNECT ON DATABASE mlflow FROM PUBLIC;
