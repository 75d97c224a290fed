"""What an administrator may set for Kubernetes, and what is wrong with it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode

from gateway import checks
from gateway.backends import named
from gateway.backends.base import BaseBackend
from gateway.backends.contract import Instance, Launch, Resources, Role
from gateway.backends.kubernetes import manifests, merge, names
from gateway.backends.kubernetes.manifests import Place
from gateway.files import default_state_dir

_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?([EPTGMk]i?)?")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]*")


class KubernetesSettings(BaseBackend):
    """Settings of the backend, and what follows from them alone."""

    root = Unicode(help="Directory of kept logs, and of what this backend keeps. Made 0700.").tag(
        config=True
    )
    tag = Unicode(
        help="Begins the names of pods, and tells this gateway's from another's in the same"
        " namespace: a letter, then letters and digits. Default: made once, kept in root."
    ).tag(config=True)
    kubeconfig = Unicode(
        "",
        help="Path of a kubeconfig. Empty: the service account of the gateway's own pod.",
    ).tag(config=True)
    kubeconfig_context = Unicode("", help="Context of the kubeconfig. Empty: its current one.").tag(
        config=True
    )
    namespace = Unicode(
        "",
        help="Namespace of clusters; {user} is replaced, where every user has one in which the"
        " gateway has its rights. Empty: that of the gateway's own account.",
    ).tag(config=True)

    image = Unicode("", help="Image of schedulers and workers, with Dask in it.").tag(config=True)
    python = List(
        Unicode(), ["python"], minlen=1, help="Command of Python in the image, as a list of words."
    ).tag(config=True)
    image_pull_policy = Enum(
        ["", "Always", "IfNotPresent", "Never"],
        "",
        help="When nodes pull the image. Empty: as Kubernetes chooses.",
    ).tag(config=True)
    image_pull_secrets = List(
        Unicode(), help="Names of Secrets that the image's registry asks for."
    ).tag(config=True)
    node_selector = Dict(help="Labels that nodes must have.").tag(config=True)
    tolerations: List[Any] = List(help="Tolerations of nodes' taints, as in a pod.").tag(
        config=True
    )
    affinity = Dict(help="Affinity, as in a pod.").tag(config=True)
    priority_class = Unicode("", help="Priority class.").tag(config=True)
    service_account = Unicode(
        "", help="Service account of pods; its token is not mounted. Empty: the default one."
    ).tag(config=True)
    runtime_class = Unicode("", help="Runtime class, such as gvisor.").tag(config=True)
    pod_scheduler = Unicode(
        "", help="Which of Kubernetes' schedulers places pods. Empty: the usual one."
    ).tag(config=True)
    volumes: List[Any] = List(help="Volumes of pods beside the gateway's own, as in a pod.").tag(
        config=True
    )
    volume_mounts: List[Any] = List(help="Where they are mounted, as in a container.").tag(
        config=True
    )
    labels = Dict(help="Labels of pods beside the gateway's own.").tag(config=True)
    annotations = Dict(help="Annotations of pods beside the gateway's own.").tag(config=True)
    read_only_root = Bool(
        True,
        help="Whether a pod's files are read-only but for /tmp and its own directory.",
    ).tag(config=True)
    scratch_size = Unicode(
        "", help="Most space of /tmp, and of a pod's own directory, such as 10Gi. Empty: any."
    ).tag(config=True)
    scratch_request = Unicode(
        "", help="Local disk that a pod asks for (ephemeral-storage), such as 5Gi."
    ).tag(config=True)
    gpu_name = Unicode(
        manifests.GPU,
        help="Extended resource that worker_gpus and scheduler_gpus ask for, such as"
        " nvidia.com/gpu, amd.com/gpu or nvidia.com/mig-1g.10gb.",
    ).tag(config=True)
    limit_cores = Bool(
        True, help="Whether a pod is held to its cores where its node has more to give."
    ).tag(config=True)
    requested_cores_share = Float(
        1.0, min=0.001, max=1.0, help="Share of its cores that a pod requests of its node."
    ).tag(config=True)
    requested_memory_share = Float(
        1.0, min=0.001, max=1.0, help="Share of its memory that a pod requests of its node."
    ).tag(config=True)
    pod_fields = Dict(
        help="More fields of a pod's spec, merged into it as Kubernetes would (strategic merge)."
    ).tag(config=True)
    container_fields = Dict(help="More fields of its container, merged in the same way.").tag(
        config=True
    )
    shape = Unicode(
        "",
        help="Which of `shapes` pods have. As an option by group (Select, per_group=True), users"
        " choose it for each group of workers.",
    ).tag(config=True)

    scheduler_settings = Dict(
        help="Settings of a pod that differ for schedulers: {'priority_class': 'high'}."
    ).tag(config=True)
    shapes = Dict(
        help="Shapes of pods by name, each with settings of a pod that differ: {'spot':"
        " {'node_selector': {'pool': 'spot'}}}. Schedulers never have one."
    ).tag(config=True)

    run_as_user = Int(
        1000, min=0, help="Number of the user that pods run as. 0: as the image or platform says."
    ).tag(config=True)
    run_as_group = Int(
        1000, min=0, help="Number of their group, and of their files'. 0: as the platform says."
    ).tag(config=True)
    stop_grace_s = Int(
        10, min=1, help="Seconds that a pod may take to end by itself, before it is killed."
    ).tag(config=True)
    force_after_s = Float(
        60.0,
        min=1.0,
        help="Seconds beyond that after which a pod is deleted by force: its node is lost.",
    ).tag(config=True)
    start_timeout_s = Float(
        600.0,
        min=0,
        help="Seconds that a pod may wait for a node or for its image, before it has failed. 0:"
        " for ever.",
    ).tag(config=True)
    scale_up_timeout_s = Float(
        1800.0,
        min=0,
        help="Seconds that it may while the cluster autoscaler brings a node. 0: for ever.",
    ).tag(config=True)
    scheduler_disruption_budget = Bool(
        True, help="Whether a disruption budget keeps schedulers from being drained off nodes."
    ).tag(config=True)

    headless_service = Bool(
        False,
        help="Whether each cluster has a headless Service, by which its pods have names in the"
        " cluster's DNS. The gateway needs the rights to create and patch services then.",
    ).tag(config=True)

    kept_worker_logs = Int(
        5,
        min=0,
        help="Workers of a cluster, beside those that failed, whose logs are kept when they are"
        " stopped. Each costs one call.",
    ).tag(config=True)
    kept_failed_logs = Int(50, min=0, help="Failed workers of a cluster whose logs are kept.").tag(
        config=True
    )
    max_log_bytes = Int(
        4 * 2**20, min=2**16, help="Bytes of a kept log; what is oldest goes first."
    ).tag(config=True)
    max_kept_log_bytes = Int(
        2 * 2**30, min=2**20, help="Bytes of all kept logs; what was written first goes first."
    ).tag(config=True)
    call_timeout_s = Float(
        30.0, min=0.1, help="Seconds after which a call to Kubernetes is given up."
    ).tag(config=True)
    concurrency = Int(
        32, min=1, max=500, help="Calls to Kubernetes at a time, beside watches and logs."
    ).tag(config=True)
    relist_s = Float(
        600.0, min=1.0, help="Seconds between two lists of all pods, beside the watch."
    ).tag(config=True)
    observe_interval_s = Float(
        10.0,
        min=0.1,
        help="Seconds between two looks; what the watch tells is passed on at once anyway.",
    ).tag(config=True)

    #: traits that are settings of one cluster's pods
    setting_names: tuple[str, ...] = (
        "image",
        "image_pull_policy",
        "image_pull_secrets",
        "node_selector",
        "tolerations",
        "affinity",
        "priority_class",
        "service_account",
        "runtime_class",
        "pod_scheduler",
        "volumes",
        "volume_mounts",
        "labels",
        "annotations",
        "read_only_root",
        "scratch_size",
        "scratch_request",
        "gpu_name",
        "limit_cores",
        "requested_cores_share",
        "requested_memory_share",
        "pod_fields",
        "container_fields",
        "shape",
    )

    def _root_default(self) -> str:
        return str(default_state_dir() / self.name)

    def cluster_settings(self) -> Mapping[str, object]:
        """Return the settings of a cluster's pods, and the command of Python in their image."""
        return {
            "python": list(self.python),
            **{name: getattr(self, name) for name in self.setting_names},
        }

    def allots(self, resources: Resources) -> Resources:
        """Return whole thousandths of a core: Kubernetes gives no parts of them."""
        millis = max(1, math.ceil(round(resources.cores * 1000, 6)))
        return replace(named.whole(resources), cores=max(resources.cores, millis / 1000))

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why a pod cannot be given GPUs and named resources: extended resources here."""
        return named.objection(resources, named.gpu_name(settings, manifests.GPU), manifests.NAMING)

    def settings_of(self, launch: Launch) -> dict[str, Any]:
        """Return the settings of a launch's pod: as the cluster or its group was given them, then
        as its role or its shape has them. ValueError says which shape there is none of."""
        found = {name: launch.options.get(name, getattr(self, name)) for name in self.setting_names}
        if launch.instance.role is Role.SCHEDULER:
            return found | dict(self.scheduler_settings)
        shape = str(found["shape"] or "")
        if not shape:
            return found
        if shape not in self.shapes:
            there = ", ".join(sorted(self.shapes)) or "none"
            raise ValueError(f"shape: there is no {shape!r}; there are: {there}")
        return found | dict(self.shapes[shape])

    def place_of(self, tag: str, instance: Instance, namespace: str) -> Place:
        """Return where an instance's pod goes."""
        return Place(
            tag,
            namespace,
            self.run_as_user,
            self.run_as_group,
            self.stop_grace_s,
            named=self.headless_service,
        )

    def checked_setting(self, name: str, value: object) -> object:
        """Return a pod's setting as it is used; ValueError says what would be right."""
        taken = super().checked_setting(name, value)
        if wrong := self._wrong_setting(name, taken):
            raise ValueError(wrong)
        return taken

    def _wrong_setting(self, name: str, value: Any) -> str:
        if name in ("scratch_size", "scratch_request") and value:
            return "" if _SIZE.fullmatch(value) else f"must be a size such as 10Gi, not {value!r}"
        if name == "gpu_name" and not manifests.NAMING.form.fullmatch(str(value)):
            return f"must be an extended resource such as {manifests.GPU}, not {value!r}"
        if name == "image" and value and not _IMAGE.fullmatch(value):
            return f"must be an image such as registry.example.org/dask:2026.3, not {value!r}"
        if name == "shape" and value and value not in self.shapes:
            there = ", ".join(sorted(self.shapes)) or "none"
            return (
                f"must be one of c.{type(self).__name__}.shapes, not {value!r}; there are: {there}"
            )
        if name in ("labels", "annotations"):
            ours = [key for key in value if str(key).startswith(names.PREFIX)]
            if ours:
                return f"{ours[0]!r} is the gateway's own"
        if name in ("volumes", "volume_mounts", "tolerations") and not all(
            isinstance(one, Mapping) for one in value
        ):
            return f"must be a list of mappings as in a pod, not {value!r}"
        if isinstance(value, Mapping | list):
            return merge.problem(value, name)
        return ""

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each."""
        section = f"c.{type(self).__name__}"
        found = checks.named(f"{section}.root", checks.directory(self.root))
        if self.tag and not names.TAG.fullmatch(self.tag):
            found.append(f"{section}.tag: must match {names.TAG.pattern}, not {self.tag!r}")
        if self.kubeconfig:
            found += checks.named(f"{section}.kubeconfig", checks.file(self.kubeconfig))
        plain = self.namespace.replace("{user}", "u")
        if self.namespace and not names.is_namespace(plain):
            found.append(
                f"{section}.namespace: must be the name of a namespace, in which {{user}} may"
                f" stand, not {self.namespace!r}"
            )
        if not self.image:
            found.append(
                f"{section}.image: must name an image with Dask in it, such as"
                f" ghcr.io/dask/dask:2026.3"
            )
        return found + self._pod_problems(section)

    def _pod_problems(self, section: str) -> list[str]:
        found = []
        for name in self.setting_names:
            try:
                self.checked_setting(name, getattr(self, name))
            except ValueError as error:
                found.append(f"{section}.{name}: {error}")
        found += self._others(f"{section}.scheduler_settings", self.scheduler_settings)
        for shape, settings in self.shapes.items():
            where = f"{section}.shapes: {shape}"
            if not isinstance(settings, Mapping):
                found.append(f"{where}: must be a mapping of settings, not {settings!r}")
            else:
                found += self._others(where, settings)
        return found

    def _others(self, where: str, settings: Mapping[str, object]) -> list[str]:
        """Return what is wrong with settings that differ."""
        found = []
        for name, value in settings.items():
            if name not in self.setting_names:
                close = difflib.get_close_matches(str(name), self.setting_names, n=1)
                meant = (
                    f"did you mean {close[0]}?"
                    if close
                    else ("there are " + ", ".join(self.setting_names))
                )
                found.append(f"{where}: there is no setting {name!r} of a pod; {meant}")
                continue
            try:
                self.checked_setting(name, value)
            except ValueError as error:
                found.append(f"{where}: {name}: {error}")
        return found
