"""Broken manifests: one change each, and the sentence with which validate.sh refuses it.

`python tests/cluster/variants.py` tries them and prints the table; tests/unit/test_k8s.py runs the same ones.
"""

# ruff: noqa: E501  # a table: one variant a row
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "k8s"))

from checks import kustomizations  # noqa: E402
from checks.__main__ import findings  # noqa: E402
from checks.images import built  # noqa: E402
from checks.render import BuildError, build, components, working_copy, write_combination  # noqa: E402


@dataclass(frozen=True)
class Variant:
    """One change to one file.

    Attributes:
        what: is done, in words.
        file: below k8s/.
        old, new: text; the old one stands there once or more, its first place is changed.
        sentence: part of what validate.sh then says.
        where: overlay, or components of the local one joined by +.
    """

    what: str
    file: str
    old: str
    new: str
    sentence: str
    where: str = "overlays/local"

    def sentences(self) -> list[str]:
        """What the checks say of k8s/ with this change."""
        with TemporaryDirectory() as folder:
            source = Path(folder) / "k8s"
            shutil.copytree(ROOT / "k8s", source, ignore=shutil.ignore_patterns("secrets", "checks"))
            path = source / self.file
            text = path.read_text()
            assert self.old in text, f"{self.file} no longer has {self.old!r}"
            path.write_text(text.replace(self.old, self.new, 1))
            with working_copy(source) as copy:
                known = components(copy)
                names = tuple(self.where.split("+"))
                target = copy / self.where if "/" in self.where else write_combination(copy, names, known)
                try:
                    manifests = build(target)
                except BuildError as error:
                    return [str(error)]
                tree = kustomizations.check(target, manifests, known), kustomizations.check_tree(copy)
                return [str(finding) for found in (findings(manifests), *tree) for finding in found]


NETWORK = "components/network-policies/policies.yaml"
VARIANTS = [
    Variant("unknown field", "base/app.yaml", "revisionHistoryLimit", "revisionHistory", "'revisionHistory' was unexpected"),
    Variant("number as text", "base/app.yaml", "replicas: 1", 'replicas: "1"', "replicas does not fit Kubernetes 1.37"),
    Variant("old API version", "components/autoscaling/autoscaling.yaml", "autoscaling/v2", "autoscaling/v2beta2",
            "has no HorizontalPodAutoscaler in autoscaling/v2beta2", "autoscaling"),
    Variant("unknown field of an add-on", "components/gateway/gateway.yaml", "sessionPersistence:", "sessionAffinity:",
            "'sessionAffinity' was unexpected", "gateway"),
    Variant("may be root", "base/app.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot must be true"),
    Variant("user by name only", "base/minio.yaml", "        runAsUser: 10001\n", "", "names no numeric user"),
    Variant("can gain privileges", "base/minio.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true",
            "allowPrivilegeEscalation must be false"),
    Variant("keeps capabilities", "base/postgres.yaml", "capabilities: {drop: [ALL]}", "capabilities: {drop: [CHOWN]}",
            "does not drop all capabilities"),
    Variant("no seccomp profile", "base/mlflow.yaml", "        seccompProfile: {type: RuntimeDefault}\n", "",
            "has no seccomp profile"),
    Variant("folder of the host", "base/app.yaml", "emptyDir: {sizeLimit: 1Gi}", "hostPath: {path: /tmp}",
            "volume tmp is a hostPath"),
    Variant("namespace not restricted", "base/namespace.yaml", "enforce: restricted", "enforce: baseline",
            "Pod Security enforces baseline, not restricted"),
    Variant("root can be written to", "base/trainer.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false",
            "root file system can be written to"),
    Variant("token mounted", "base/app.yaml", "      automountServiceAccountToken: false\n", "", "service-account token is mounted"),
    Variant("service links", "base/mlflow.yaml", "enableServiceLinks: false", "enableServiceLinks: true",
            "enableServiceLinks must be false"),
    Variant("no memory limit", "base/app.yaml", 'limits: {cpu: "2", memory: 1Gi}', 'limits: {cpu: "2"}',
            "resources have no limits of memory"),
    Variant("no readiness probe", "base/app.yaml", "          readinessProbe:\n            httpGet: {path: /ready, port: http}\n"
            "            periodSeconds: 5\n            timeoutSeconds: 5\n", "", "has no readinessProbe"),
    Variant("impatient liveness probe", "base/minio.yaml", "periodSeconds: 20\n            timeoutSeconds: 5",
            "periodSeconds: 5\n            timeoutSeconds: 5", "its livenessProbe must be the more patient one"),
    Variant("probe of a page that is always there", "base/app.yaml", "path: /_stcore/health", "path: /healthz",
            "livenessProbe asks /healthz"),
    Variant("probe of no port", "base/mlflow.yaml", "httpGet: {path: /health, port: http}", "httpGet: {path: /health, port: web}",
            "asks port web, which the container does not have"),
    Variant("service selects nothing", "base/app.yaml", "selector: {app.kubernetes.io/name: app}",
            "selector: {app.kubernetes.io/name: web}", "app.kubernetes.io/name=web matches no pod"),
    Variant("service to no port", "base/mlflow.yaml", "port: 5000, targetPort: http", "port: 5000, targetPort: 5001",
            "goes to 5001, which no pod of it listens on"),
    Variant("selector is not the pods'", "base/minio.yaml", "matchLabels: {app.kubernetes.io/name: minio}",
            "matchLabels: {app.kubernetes.io/name: store}", "does not match its own pods"),
    Variant("address of no service", "base/kustomization.yaml", "MLFLOW_TRACKING_URI=http://mlflow:5000",
            "MLFLOW_TRACKING_URI=http://tracking:5000", "there is no service tracking"),
    Variant("address of no port", "base/kustomization.yaml", "http://minio:9000", "http://minio:9001",
            "the service minio has no port 9001"),
    Variant("config map that nobody defines", "base/app.yaml", "configMapRef: {name: app}", "configMapRef: {name: web}",
            "nobody defines the config map web"),
    Variant("config map that nobody uses", "base/kustomization.yaml", "  - name: scripts\n",
            "  - name: more\n    literals: [A=b]\n  - name: scripts\n", "nobody uses it"),
    Variant("key that a config map lacks", "base/kustomization.yaml", "      - DATA=", "      - FOLDER=", "has no key DATA", "kubeflow-trainer"),
    Variant("address of no database", "base/kustomization.yaml", "DATABASE=postgresql://", "DB=postgresql://",
            "nobody defines $(DATABASE) in its command"),
    Variant("secret that nobody defines", "overlays/local/kustomization.yaml", "  - name: minio\n", "  - name: store\n",
            "nobody defines the secret minio"),
    Variant("key that nobody uses", "overlays/local/kustomization.yaml", "files: [password=secrets/minio]",
            "files: [password=secrets/minio, user=secrets/user]", "nobody uses its key user"),
    Variant("optional secret", "base/minio.yaml", "                  name: minio\n", "                  name: minio\n                  optional: true\n",
            "the secret minio is optional"),
    Variant("claim that nobody defines", "base/trainer.yaml", "claimName: state", "claimName: states",
            "nobody defines the volume claim states"),
    Variant("mount of no volume", "base/app.yaml", "{name: tmp, mountPath: /tmp}", "{name: temp, mountPath: /tmp}",
            "mounts a volume temp that it does not have"),
    Variant("scratch volume without limit", "base/app.yaml", "emptyDir: {sizeLimit: 1Gi}", "emptyDir: {}",
            "volume tmp may fill the node"),
    Variant("no shared memory", "base/trainer.yaml", "emptyDir: {medium: Memory, sizeLimit: 1Gi}", "emptyDir: {sizeLimit: 1Gi}",
            "the volume shared-memory is not in memory"),
    Variant("image that bake does not build", "images/kustomization.yaml", "newName: ghcr.io/manasight/app",
            "newName: ghcr.io/manasight/page", "docker/bake.hcl builds no image page"),
    Variant("another version", "images/kustomization.yaml", f"newTag: {built()[1]}", "newTag: 0.0.9", f"is not version {built()[1]}"),
    Variant("tag that moves", "images/kustomization.yaml", "newTag: 18.6-trixie", "newTag: latest", "has no fixed tag"),
    Variant("another PostgreSQL than compose's", "images/kustomization.yaml", "newTag: 18.6-trixie", "newTag: 17-trixie",
            "neither built here nor the one that compose.yaml uses"),
    Variant("roll that refuses requests", "base/app.yaml", "maxUnavailable: 0", "maxUnavailable: 1", "maxUnavailable must be 0"),
    Variant("two replicas, sessions not sticky", "base/app.yaml", "replicas: 1", "replicas: 2", "no sticky sessions"),
    Variant("replicas beside an autoscaler", "components/autoscaling/kustomization.yaml", "{op: remove, path: /spec/replicas}",
            "{op: replace, path: /spec/replicas, value: 3}", "every apply undoes", "autoscaling"),
    Variant("autoscaler of nothing", "components/autoscaling/autoscaling.yaml", "kind: Deployment, name: app}",
            "kind: Deployment, name: web}", "there is no Deployment web to scale", "autoscaling"),
    Variant("route without stickiness", "components/gateway/gateway.yaml",
            "      sessionPersistence:\n        type: Cookie\n        cookie: {name: manasight, lifetimeType: Session}\n", "",
            "it keeps no session on one pod", "gateway"),
    Variant("route to no port", "components/ingress/ingress.yaml", "port: {name: http}", "port: {name: web}",
            "no service app has a port web", "ingress"),
    Variant("certificate that nobody makes", "components/ingress/ingress.yaml", "    cert-manager.io/cluster-issuer: letsencrypt\n",
            "    example.com/note: none\n", "nobody defines the secret manasight-tls", "ingress"),
    Variant("trainer that starts by itself", "base/trainer.yaml", "suspend: true", "suspend: false", "must be suspended"),
    Variant("exit code of no container", "base/trainer.yaml", "{operator: In,", "{containerName: train, operator: In,",
            "podFailurePolicy names a container train"),
    Variant("steps in another order", "components/gpu/kustomization.yaml", "                  - name: data\n", "",
            "its steps run as labels, fit, evaluate, export, data", "gpu"),
    Variant("variable that nobody defines", "base/kustomization.yaml", "      - EXPERIMENT=demo\n", "",
            "nobody defines $(EXPERIMENT)"),
    Variant("variable before its definition", "base/trainer.yaml", "value: /state/jobs/$(JOB)", "value: /state/jobs/$(RUN)",
            "uses $(RUN), which is not defined before it"),
    Variant("workers miscounted", "overlays/distributed/kustomization.yaml", "parallelism, value: 4", "parallelism, value: 3",
            "not one number of workers", "overlays/distributed"),
    Variant("workers without names", "components/distributed-training/service.yaml", "  clusterIP: None\n", "",
            "need a headless service trainer", "distributed-training"),
    Variant("policy blocks a flow", NETWORK, "{protocol: TCP, port: 5000}", "{protocol: TCP, port: 5001}",
            "app must reach mlflow:5000, but no policy allows egress from app", "network-policies"),
    Variant("policy blocks DNS", NETWORK, "{protocol: UDP, port: 53}", "{protocol: UDP, port: 5353}",
            "must reach the cluster's DNS:53, but no policy allows", "network-policies"),
    Variant("policy opens too much", NETWORK, "            matchLabels: {app.kubernetes.io/name: mlflow}\n        - podSelector:\n",
            "            matchLabels: {app.kubernetes.io/part-of: manasight}\n        - podSelector:\n",
            "a policy opens ingress from", "network-policies"),
    Variant("policy lets the world in", NETWORK, "  ingress:\n    # Gateway", "  ingress:\n    - {}\n    # Gateway",
            "a pod of another namespace can reach app:8501", "network-policies"),
    Variant("policy selects nothing", NETWORK, "    matchLabels: {app.kubernetes.io/name: minio}", "    matchLabels: {app.kubernetes.io/name: silo}",
            "app.kubernetes.io/name=silo matches no pod", "network-policies"),
    Variant("external store, metadata service open", "components/external-s3/kustomization.yaml", ", except: [169.254.0.0/16]", "",
            "can reach the node's metadata service:443", "network-policies+external-s3"),
    Variant("external store, metadata service open over IPv6", "components/external-s3/kustomization.yaml",
            ', except: ["fc00::/7", "fe80::/10"]', "", "can reach the node's metadata service over IPv6:443", "network-policies+external-s3"),
    Variant("external database over IPv4 only", "components/external-postgres/kustomization.yaml",
            '            - ipBlock: {cidr: "::/0", except: ["fc00::/7", "fe80::/10"]}\n', "",
            "must reach the internet over IPv6:5432", "network-policies+external-postgres"),
    Variant("service of one address family", "base/app.yaml", "  ipFamilyPolicy: PreferDualStack\n", "", "ipFamilyPolicy must be PreferDualStack"),
    Variant("cookie of an older Gateway API", "components/gateway/gateway.yaml", "cookie: {name: manasight, ", "cookieConfig: {",
            "'cookieConfig' was unexpected", "gateway"),
    Variant("cookie of a newer Gateway API", "components/gateway-1.6/kustomization.yaml", "cookieConfig: {", "cookie: {name: manasight, ",
            "'cookie' was unexpected", "gateway+gateway-1.6"),
    Variant("monitoring that finds no port", "components/monitoring/service-monitor.yaml", "port: http", "port: metrics",
            "no service that it selects has a port metrics", "monitoring"),
    Variant("a namespace that is not there", "base/kustomization.yaml", "  - namespace.yaml\n", "", "nothing enforces Pod Security"),
    Variant("file that nobody lists", "base/kustomization.yaml", "  - gc.yaml\n", "", "base: its kustomization names no gc.yaml"),
    Variant("quantity that is none", "base/app.yaml", "memory: 1Gi}", "memory: 1GB}", "limits of memory, '1GB', is no quantity"),
    Variant("more requested than allowed", "base/app.yaml", "cpu: 500m, memory: 384Mi", "cpu: 500m, memory: 3Gi", "requests more memory than its limit"),
    Variant("schedule of no clock", "base/gc.yaml", '"0 6 * * *"', '"0 25 * * *"', "its schedule '0 25 * * *' is none that cron knows"),
    Variant("port with a long name", "base/app.yaml", "{name: http, containerPort", "{name: the-page-of-the-app, containerPort", "of its port is not of small letters"),
    Variant("claim in capitals", "base/backup.yaml", "  name: backups\nspec", "  name: Backups\nspec", "its name is not of small letters"),
    Variant("job that restarts in place", "base/trainer.yaml", "restartPolicy: Never", "restartPolicy: OnFailure", "podFailurePolicy asks for the restartPolicy Never"),
    Variant("tries per index, no indexes", "components/distributed-training/trainer.yaml", "      completionMode: Indexed\n", "",
            "backoffLimitPerIndex asks for the completionMode Indexed", "distributed-training"),
    Variant("preStop beyond the grace period", "base/app.yaml", "sleep: {seconds: 10}", "sleep: {seconds: 60}", "its preStop waits 60 s"),
    Variant("no grace period", "base/gc.yaml", "          terminationGracePeriodSeconds: 30\n", "", "it has no termination grace period"),
    Variant("no time for a checkpoint", "base/trainer.yaml", "terminationGracePeriodSeconds: 120", "terminationGracePeriodSeconds: 5",
            "a trainer needs 60 seconds to write its state"),
    Variant("volume of root", "base/trainer.yaml", "            fsGroup: 10001\n", "", "its volumes belong to root"),
    Variant("secret that its reader may not read", "base/mlflow.yaml", "defaultMode: 0440", "defaultMode: 0400", "its user may not read its secrets"),
    Variant("no /tmp", "base/app.yaml", "{name: tmp, mountPath: /tmp}", "{name: tmp, mountPath: /cache}", "it has no /tmp to write to"),
    Variant("two mounts in one place", "base/postgres.yaml", "{name: tmp, mountPath: /tmp}", "{name: tmp, mountPath: /run/secrets}", "mount at /run/secrets twice"),
    Variant("PostgreSQL's data beside the volume", "base/postgres.yaml", "/var/lib/postgresql}", "/var/lib/postgresql/data}", "belongs at /var/lib/postgresql"),
    Variant("command of no image", "base/mlflow.yaml", "args: [server]", "args: [serve]", "the image mlflow has no command 'serve'"),
    Variant("step of no trainer", "base/trainer.yaml", "args: [evaluate]", "args: [evalute]", "the image trainer has no command 'evalute'"),
    Variant("experiment of no file", "base/kustomization.yaml", "EXPERIMENT=demo", "EXPERIMENT=demos", "reads trainer/experiments/demos.yaml"),
    Variant("script of no command", "base/gc.yaml", "maintenance.py, gc,", "maintenance.py, tidy,", "maintenance.py has no command 'tidy'"),
    Variant("script that is not mounted", "base/gc.yaml", "/scripts/maintenance.py", "/scripts/gc.py", "it calls /scripts/gc.py, which nobody mounts"),
    Variant("setting that nobody reads", "base/kustomization.yaml", "MANASIGHT_POLL_SECONDS", "MANASIGHT_POLL", "nothing reads the setting MANASIGHT_POLL"),
    Variant("secret file of another name", "base/postgres.yaml", "value: /run/secrets/postgres", "value: /run/secrets/password",
            "POSTGRES_PASSWORD_FILE is /run/secrets/password, which nobody mounts"),
    Variant("password in a config map", "base/kustomization.yaml", "TRACKING_URI=http://mlflow", "TRACKING_URI=http://admin:secret@mlflow", "holds a password"),
    Variant("alive only when ready", "base/minio.yaml", "/minio/health/live", "/minio/health/ready", "what tells this state is /minio/health/live"),
    Variant("fewest above most", "components/autoscaling/autoscaling.yaml", "minReplicas: 2", "minReplicas: 30", "minReplicas is above maxReplicas", "autoscaling"),
    Variant("budget that blocks every drain", "components/autoscaling/autoscaling.yaml", "maxUnavailable: 1", "maxUnavailable: 0",
            "it lets no pod go", "autoscaling"),
    Variant("route to no listener", "components/gateway/gateway.yaml", "sectionName: https", "sectionName: http", "has no listener http", "gateway"),
    Variant("route under another name", "components/gateway/gateway.yaml", "hostnames: [manasight", "hostnames: [other",
            "does not serve its name other.example.com", "gateway"),
    Variant("ingress without encryption", "components/ingress/ingress.yaml", "hosts: [manasight", "hosts: [other", "manasight.example.com has no TLS", "ingress"),
    Variant("GPU that is not tolerated", "components/gpu/kustomization.yaml", "{key: nvidia.com/gpu,", "{key: nvidia.com/gpus,", "does not tolerate the taint", "gpu"),
    Variant("GPU without CUDA", "components/gpu/rename/kustomization.yaml", "manasight/trainer,", "manasight/train,", "its image has no CUDA", "gpu"),
    Variant("CUDA without GPU", "components/gpu/kustomization.yaml", 'limits: {nvidia.com/gpu: "1"}', 'limits: {cpu: "4"}', "asks for no GPU", "gpu"),
    Variant("workers without a shared folder", "components/distributed-training/kustomization.yaml", "[ReadWriteMany]", "[ReadWriteOnce]",
            "which must be ReadWriteMany", "distributed-training"),
    Variant("meeting at no port", "components/distributed-training/trainer.yaml", ".trainer:29400", ".trainer:29401",
            "its workers meet at port 29401", "distributed-training"),
    Variant("meeting at no service", "components/distributed-training/trainer.yaml", ".trainer:29400", ".workers:29400",
            "its workers meet at workers", "distributed-training"),
    Variant("names only of the ready", "components/distributed-training/service.yaml", "  publishNotReadyAddresses: true\n", "",
            "must publish addresses that are not ready", "distributed-training"),
    Variant("secret file under a name that nobody reads", "base/mlflow.yaml", "path: mlflow_database", "path: mlflow_db",
            "Deployment/mlflow: it mounts /run/secrets/mlflow_db, which nothing in it reads"),
    Variant("secret that only its server lacks", "base/mlflow.yaml", "              - secret:\n                  name: minio\n"
            "                  items: [{key: password, path: minio}]\n", "", "its server reads MANASIGHT_S3_SECRET_FILE, /run/secrets/minio, which it does not mount"),
    Variant("migration without settings", "base/mlflow.yaml", "migrate]\n          envFrom: *mlflow-env\n", "migrate]\n",
            "Deployment/mlflow container migrate: it does not get MANASIGHT_DATABASE"),
    Variant("backup in clear", "base/backup.yaml", "              envFrom: *mlflow-env\n              env:\n",
            "              env:\n                - name: DATABASE\n                  valueFrom: {configMapKeyRef: {name: mlflow, key: DATABASE}}\n",
            "CronJob/backup container database: a config map sets PGSSLMODE, and it does not get it", "external-postgres"),
    Variant("restore in clear", "base/restore.yaml", "              envFrom: *mlflow-env\n              env:\n",
            "              env:\n                - name: DATABASE\n                  valueFrom: {configMapKeyRef: {name: mlflow, key: DATABASE}}\n",
            "CronJob/restore container database: a config map sets PGSSLMODE, and it does not get it", "external-postgres"),
    Variant("variable of MLflow misspelt", "base/kustomization.yaml", "MLFLOW_TRACKING_URI=", "MLFLOW_TRACKING_URL=", "nothing reads MLFLOW_TRACKING_URL; is MLFLOW_TRACKING_URI meant?"),
    Variant("variable of the store misspelt", "base/minio.yaml", "MINIO_ROOT_PASSWORD_FILE", "MINIO_ROOT_PASSWORD_FILES", "nothing reads MINIO_ROOT_PASSWORD_FILES"),
    Variant("variable of PostgreSQL misspelt", "base/postgres.yaml", "POSTGRES_PASSWORD_FILE", "POSTGRES_PASSWORD_FIL", "nothing reads POSTGRES_PASSWORD_FIL;"),
    Variant("variable of libpq misspelt", "base/backup.yaml", "name: PGPASSWORD", "name: PGPASS", "nothing reads PGPASS;"),
    Variant("TLS misspelt", "components/external-postgres/kustomization.yaml", "PGSSLMODE=", "PGSSLMOD=", "nothing reads PGSSLMOD;", "external-postgres"),
    Variant("home on no volume", "base/trainer.yaml", "value: /state/jobs", "value: /stat/jobs", "which lies on none of its volumes"),
    Variant("images on no volume", "components/dataset-pvc/kustomization.yaml", "DATA=/data,", "DATA=/dataset,",
            "it names /dataset, which lies on none of its volumes", "dataset-pvc"),
    Variant("backup beside its folder", "base/backup.yaml", "/backups/part, subPath", "/backups/parts, subPath",
            "it names /backups/part/database.dump, which lies on none of its volumes"),
    Variant("access mode that there is not", "base/backup.yaml", "[ReadWriteOnce]", "[ReadWriteOnly]", "ReadWriteOnly is none of the access modes"),
    Variant("action that there is not", "base/trainer.yaml", "action: Ignore", "action: Skip", "podFailurePolicy's action Skip is none of"),
    Variant("measure that there is not", "components/autoscaling/autoscaling.yaml", "name: cpu\n", "name: cpus\n", "it measures cpus", "autoscaling"),
    Variant("profile of no version", "base/namespace.yaml", "enforce-version: latest", "enforce-version: newest", "Pod Security's version 'newest'"),
    Variant("budget as large as the replicas", "overlays/production/mlflow-disruption.yaml", "maxUnavailable: 1", "minAvailable: 2",
            "PodDisruptionBudget/mlflow: it lets no pod go", "overlays/production"),
    Variant("budget as large as the autoscaler's least", "components/autoscaling/autoscaling.yaml", "maxUnavailable: 1", "minAvailable: 2",
            "PodDisruptionBudget/app: it lets no pod go", "autoscaling"),
    Variant("runtime that Kubeflow does not bring", "components/kubeflow-trainer/train-job.yaml", "name: torch-distributed}", "name: torch-distribute}",
            "Kubeflow Trainer brings no runtime torch-distribute", "kubeflow-trainer"),
    Variant("label that a pod does not have", "base/trainer.yaml", "batch.kubernetes.io/job-name", "batch.kubernetes.io/jobname",
            "JOB reads the label batch.kubernetes.io/jobname, which its pods do not have"),
    Variant("workers that wait for ever", "components/distributed-training/trainer.yaml", "      maxFailedIndexes: 0\n", "",
            "maxFailedIndexes must be 0", "distributed-training"),
    Variant("large volume that no node promised", "base/restore.yaml",
            ', ephemeral-storage: 22Gi}\n                limits: {cpu: "1", memory: 1Gi, ephemeral-storage: 22Gi}',
            '}\n                limits: {cpu: "1", memory: 1Gi}', "volume work is large"),
    Variant("disk without a limit", "base/restore.yaml", "memory: 1Gi, ephemeral-storage: 22Gi}", "memory: 1Gi}",
            "requests ephemeral-storage without a limit"),
    Variant("disk without room for /tmp", "components/data-pull/trainer.yaml",
            "requests: {ephemeral-storage: 55Gi}\n                limits: {ephemeral-storage: 55Gi}",
            "requests: {ephemeral-storage: 50Gi}\n                limits: {ephemeral-storage: 50Gi}",
            "hold more than its limit of ephemeral-storage", "data-pull"),
    Variant("champion that a restart forgets", "base/app.yaml", "value: /var/lib/manasight}", "value: /tmp/manasight}",
            "its MANASIGHT_HOME must be a volume of its own"),
    Variant("empty list that the server drops", "components/data-pull/trainer.yaml", "args: null", "args: []", "args is empty, which the server drops", "data-pull"),
    Variant("claim that the server completes", "base/minio.yaml", "        volumeMode: Filesystem\n", "", "has no volumeMode, which the server adds"),
    Variant("quantity in another form", "base/app.yaml", 'limits: {cpu: "2"', "limits: {cpu: 2000m", "is '2000m', which the server stores as '2'"),
    Variant("backup before there is room", "base/backup.yaml", "- name: database\n              image: postgres", "- name: bucket\n              image: postgres",
            "its steps run as room, bucket, and must as bucket, room"),
    Variant("patch of nothing", "overlays/production/kustomization.yaml", "{kind: HTTPRoute, name: app}", "{kind: HTTPRoute, name: web}",
            "there is no HTTPRoute/web to patch", "overlays/production"),
    Variant("component that patches nothing", "components/monitoring/kustomization.yaml", "{kind: Service, name: app}", "{kind: Service, name: web}",
            "components/monitoring: it patches Service/web, which nobody defines"),
    Variant("components in a wrong order", "overlays/production/kustomization.yaml", "  - ../../components/network-policies\n  - ../../components/autoscaling\n",
            "  - ../../components/autoscaling\n  - ../../components/network-policies\n", "list network-policies before autoscaling", "overlays/production"),
    Variant("components that exclude each other", "overlays/distributed/kustomization.yaml", "  - ../../components/data-pull\n",
            "  - ../../components/data-pull\n  - ../../components/dataset-pvc\n", "data-pull and dataset-pvc do not go together", "overlays/distributed"),
    Variant("secret in git", "base/namespace.yaml", "apiVersion: v1\n", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n---\napiVersion: v1\n",
            "base: namespace.yaml holds a secret, and git would keep it"),
    Variant("secret in a kustomization", "overlays/local/kustomization.yaml", "files: [password=secrets/minio]", "literals: [password=minio]",
            "its secretGenerator says values"),
    Variant("pod beside the rules", "overlays/production/mlflow-disruption.yaml", "apiVersion: policy/v1\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: shell}\nspec: {containers: [{name: shell, image: busybox}]}\n---\napiVersion: policy/v1\n",
            "Pod/shell container shell: allowPrivilegeEscalation must be false", "overlays/production"),
    Variant("missing file", "overlays/local/kustomization.yaml", "../../base", "../../bases", "no such file or directory"),
]  # fmt: skip


def main() -> int:
    """Try every variant and print the table."""
    failed = 0
    print("| what is changed | where | the sentence that refuses it |\n|---|---|---|")
    for variant in VARIANTS:
        said = variant.sentences()
        match = next((sentence for sentence in said if variant.sentence in sentence), None)
        failed += match is None
        print(f"| {variant.what} | {variant.file} | {match or f'NOT REFUSED: {said}'} |", flush=True)
    print(f"\n{len(VARIANTS) - failed} of {len(VARIANTS)} variants are refused")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
