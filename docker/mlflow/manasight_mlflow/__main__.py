"""Entry point of the image; compose and Kubernetes call the same commands. Secrets come from files.

server                  serve MLflow
migrate                 bring the database's schema up to this image's version; one process at a time
gc AGE                  remove for good what was deleted in MLflow that long ago, such as 30d
bucket create           create the artifacts' bucket unless it exists
backup prepare DAYS     make room in /backups: delete leftovers and archives older than this
backup write TARGET     add the bucket to /work/database.dump, as an archive in a folder or on standard output (-)
restore unpack NAME     check an archive in /backups (newest: the last one) and unpack it into /work
restore load            replace the bucket by /work/bucket.tar
owner                   nothing: the first container to mount a new volume gives it the image's user
"""

import sys

from manasight_mlflow.settings import AwayError, SettingError

# The exit status of what fails until something is changed: a Kubernetes Job does not try again.
LASTING = 2


def run(arguments: list[str]) -> None:
    """Do what the arguments say.

    Raises:
        SettingError: if they or a setting are wrong, or a server refuses.
    """
    # Imported where they are needed: MLflow takes seconds.
    match arguments:
        case ["server"]:
            from manasight_mlflow import server

            server.serve()
        case ["owner"]:
            print("the volume belongs to this image's user")
        case ["migrate"]:
            from manasight_mlflow import database

            database.migrate()
        case ["gc", age]:
            from manasight_mlflow import database

            database.collect_garbage(age)
        case ["bucket", "create"]:
            from manasight_mlflow import bucket

            bucket.create()
        case ["backup", "prepare", days]:
            from manasight_mlflow import archive

            archive.prepare(days)
        case ["backup", "write", target]:
            from manasight_mlflow import archive

            archive.write(target)
        case ["restore", "unpack", name]:
            from manasight_mlflow import archive

            archive.unpack(name)
        case ["restore", "load"]:
            from manasight_mlflow import bucket

            bucket.load()
        case _:
            raise SettingError(f"there is no command '{' '.join(arguments)}'; `python3 -m manasight_mlflow` lists them")


def main(arguments: list[str]) -> int:
    """Run a command; an error is one sentence and a status: 1 if another try may work, otherwise `LASTING`."""
    if not arguments:
        print(__doc__)
        return 1
    try:
        run(arguments)
    except (SettingError, OSError) as error:
        print(f"mlflow image: {error}", file=sys.stderr)
        return 1 if isinstance(error, (AwayError, OSError)) else LASTING
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
