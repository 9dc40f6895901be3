"""The object store as MLflow's server uses it: every artifact passes through the server, none is fetched around it."""

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository


class ProxiedS3ArtifactRepository(ArtifactRepository):
    """MLflow's own S3 repository without its signed addresses.

    From 3.17 on a server whose repository can sign addresses tells its clients to download from the object store
    itself. Ours is reached by the server only, so such downloads hang, and no setting turns the offer off. Registered
    for `s3` by the entry point `mlflow.artifact_repository` in the folder of metadata beside this file.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        """Nothing is asked of the store yet; the addresses are MLflow's own."""
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self.store = S3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    def log_artifact(self, local_file, artifact_path=None):
        """Put one file of this machine below `artifact_path`."""
        self.store.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir, artifact_path=None):
        """Put the files of a folder below `artifact_path`."""
        self.store.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path=None):
        """What lies below `path`: a list of MLflow's FileInfo."""
        return self.store.list_artifacts(path)

    def delete_artifacts(self, artifact_path=None):
        """Delete what lies below `artifact_path`."""
        self.store.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path, local_path):
        self.store._download_file(remote_file_path, local_path)
