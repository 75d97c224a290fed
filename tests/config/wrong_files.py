"""Configuration files that are wrong, each with what `check-config` is to say of it. `{0}` stands
for a directory with the files of `pki`."""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    """Lines of a file, the settings that are to be named, and words that help."""

    lines: str
    settings: tuple[str, ...]
    words: str = ""


def _one(setting: str, value: str, words: str = "") -> Wrong:
    return Wrong(f"c.{setting} = {value}", (f"c.{setting}",), words)


YARN = (
    "c.DaskGateway.backends = ['yarn']; c.YarnBackend.resourcemanager_urls = ['http://rm:8088'];"
    " c.YarnBackend."
)
SLURM = "c.DaskGateway.backends = ['slurm']; c.SlurmBackend."
PBS = "c.DaskGateway.backends = ['pbs']; c.PbsBackend."
FIELDS = "from gateway.options import *; c.ClusterConfig.options = "
TLS = "c.DaskGateway.tls_cert, c.DaskGateway.tls_key = '{0}/cert.pem', '{0}/key.pem'; "
NAMED = "c.DaskGateway.agent_address = 'https://gateway.example.org:8001'; "
CERT, KEY, CA = (f"c.DaskGateway.tls_{name}" for name in ("cert", "key", "ca"))
EDGE_CERT, EDGE_KEY = "c.Proxy.tls_cert", "c.Proxy.tls_key"
PUBLIC = "c.Proxy.tls_cert, c.Proxy.tls_key = "


def _yarn(setting: str, value: str, words: str = "") -> Wrong:
    return Wrong(f"{YARN}{setting} = {value}", (f"c.YarnBackend.{setting}",), words)


def _slurm(setting: str, value: str, words: str = "") -> Wrong:
    return Wrong(f"{SLURM}{setting} = {value}", (f"c.SlurmBackend.{setting}",), words)


def _pbs(setting: str, value: str, words: str = "") -> Wrong:
    return Wrong(f"{PBS}{setting} = {value}", (f"c.PbsBackend.{setting}",), words)


def _options(fields: str, words: str) -> Wrong:
    return Wrong(f"{FIELDS}{fields}", ("c.ClusterConfig.options",), words)


MET = [  # as people wrote them
    _one("Proxy.own_ports", "[99999]", "greater than 65535, but a value of 99999"),
    _one("PasswordAuthenticator.users", "{{3: 'x'}}", "3 is no user name: it must be a text"),
    _one("PasswordAuthenticator.users_file", "'/nowhere/users'", "/nowhere/users: No such file"),
    _one("DaskGateway.user_name", "lambda: 'x'", "must take one argument, the name"),
    _one("ClusterConfig.scheduler_host", "'a b'", "a host's name or address, not 'a b'"),
    _one("ClusterConfig.python", "'/nowhere/python'", "/nowhere/python: this machine, where"),
    _one("ClusterConfig.python", "['nosuchpython', '-X', 'dev']", "nosuchpython: this machine"),
    _options("[Select('f', ('a', 'b', 'a'), 'a')]", "its choices name 'a' twice"),
    _slurm("shell", "'bash'", "must be the path of a shell, such as /bin/sh, not 'bash'"),
]
NAMES = [
    _one("DaskGateway.adress", "'127.0.0.1:1'", "did you mean address?"),
    _one("DaskGateway.state_directory", "'/x'", "did you mean state_dir?"),
    _one("Proxy.tls_certificate", "'/x'", "did you mean tls_cert?"),
    _one("Proxy.port", "8000", "Proxy has no such setting"),
    _one("ClusterConfig.worker_memry", "'4 GiB'", "did you mean worker_memory?"),
    _one("ClusterConfig.idle_timeouts", "60", "did you mean idle_timeout_s?"),
    _one("LocalBackend.rot", "'/x'", "did you mean root?"),
    _one("PasswordAuthenticator.user", "{{}}", "did you mean users?"),
    _slurm("partiton", "'cpu'", "did you mean partition?"),
    _pbs("que", "'long'", "did you mean queue?"),
    Wrong("c.DaskGatway.address = 'x'", ("c.DaskGatway",), "did you mean DaskGateway?"),
    Wrong("c.ClusterConfg.worker_cores = 1", ("c.ClusterConfg",), "did you mean ClusterConfig?"),
    Wrong("c.proxy.address = 'x'", ("c.proxy",), "did you mean Proxy?"),
    Wrong("c.CondorBackend.x = 1", ("c.CondorBackend",), "there is no such class"),
    _one("DaskGateway.backends", "['lokal']", "did you mean local?"),
    _one("DaskGateway.backends", "['local', 'kubernets']", "'kubernets'"),
    _one("DaskGateway.authenticator", "'pasword'", "did you mean password?"),
]

TYPES = [
    _one("DaskGateway.backends", "[]", "at least one backend"),
    _one("DaskGateway.backends", "['local', 'local']", "twice"),
    _one("DaskGateway.max_clusters", "'many'", "'many'"),
    _one("DaskGateway.max_clusters", "0", "0"),
    _one("DaskGateway.max_clusters", "2.5", "2.5"),
    _one("DaskGateway.max_events_per_cluster", "10", "10"),
    _one("DaskGateway.drain_s", "-1", "-1"),
    _one("DaskGateway.drain_s", "float('inf')", "inf"),
    _one("DaskGateway.retention_s", "float('nan')", "nan"),
    _one("DaskGateway.log_level", "'LOUD'", "'LOUD'"),
    _one("DaskGateway.start_proxy", "'yes'", "'yes'"),
    _one("DaskGateway.state_dir", "5", "5"),
    _one("Proxy.max_connections", "'many'", "'many'"),
    _one("Proxy.processes", "0", "0"),
    _one("Proxy.processes", "1000", "1000"),
    _one("Proxy.own_ports", "[70000]", "70000"),
    _one("Proxy.own_ports", "8080", "8080"),
    _one("Proxy.scheduler_networks", "10", "10"),
    _one("PasswordAuthenticator.admins", "5", "5"),
    _one("Proxy.forwarded_by", "'x-real-ip'", "'x-real-ip'"),
    _one("Proxy.log_level", "'TRACE'", "'TRACE'"),
    _one("Proxy.insecure_ok", "'no'", "'no'"),
    _one("Proxy.session_s", "1", "1"),
    Wrong("c.Proxy.allowed_origins.append(5)", ("c.Proxy.allowed_origins",), "5"),
    _one("ClusterConfig.worker_memory", "'much'", "amount of memory"),
    _one("ClusterConfig.worker_memory", "'1 kB'", "1 MiB"),
    _one("ClusterConfig.worker_memory", "-1", "amount of memory"),
    _one("ClusterConfig.scheduler_memory", "'4 Gigs'", "4 GiB"),
    _one("ClusterConfig.max_memory", "['4 GiB']", "4 GiB"),
    _one("ClusterConfig.worker_cores", "0", "0"),
    _one("ClusterConfig.worker_cores", "'2'", "'2'"),
    _one("ClusterConfig.worker_threads", "1.5", "1.5"),
    _one("ClusterConfig.max_workers", "-1", "-1"),
    _one("ClusterConfig.idle_timeout_s", "'1 h'", "'1 h'"),
    _one("ClusterConfig.idle_timeout_s", "-5", "-5"),
    _one("ClusterConfig.python", "5", "5"),
    _one("ClusterConfig.python", "['']", "command of Python"),
    _one("ClusterConfig.environment", "['A=1']", "A=1"),
    _one("ClusterConfig.environment", "{{'A B': '1'}}", "A B"),
    _one("ClusterConfig.environment", "{{'LD_PRELOAD': '/x.so'}}", "LD_PRELOAD"),
    _one("ClusterConfig.environment", "{{'A': object()}}", "texts"),
    _one("ClusterConfig.dask_config", "{{'distributed.comm.tls.ca-file': '/x'}}", "gateway itself"),
    _one("ClusterConfig.apply_options", "5", "callable"),
    _one("ClusterConfig.apply_options", "lambda: {{}}", "(values, user)"),
    _one("ClusterConfig.apply_options", "lambda a, b, c: {{}}", "(values, user)"),
    _one("ClusterConfig.options", "lambda: []", "one argument"),
    _one("ClusterConfig.options_timeout_s", "0", "0"),
    _one("PasswordAuthenticator.users", "{{'alice': 'secret'}}", "daskgateway hash-password"),
    _one("PasswordAuthenticator.users", "'alice'", "dict"),
    _one("PasswordAuthenticator.users", "{{'al ice': 'scrypt'}}", "al ice"),
    _one("PasswordAuthenticator.password", "'secret'", "daskgateway hash-password"),
    _one("PasswordAuthenticator.groups", "{{'alice': 'staff'}}", "list"),
    _one("PasswordAuthenticator.admins", "{{'al ice'}}", "user name must match"),
    _one("PasswordAuthenticator.identity_kept_s", "3600", "3600"),
    _one("LocalBackend.start_threads", "0", "0"),
]

ADDRESSES = [
    _one("DaskGateway.address", "'nonsense'", "host:port, such as 127.0.0.1:8000, not 'nonsense'"),
    _one("DaskGateway.address", "'0.0.0.0'", "must be host:port"),
    _one("DaskGateway.address", "'127.0.0.1:99999'", "99999"),
    _one("DaskGateway.address", "'http://127.0.0.1:8001'", "must be host:port"),
    _one("DaskGateway.address", "'127.0.0.1:'", "must be host:port"),
    _one("DaskGateway.address", "'203.0.113.7:8001'", "no address of this machine"),
    _one("DaskGateway.address", "'no-such-host.invalid:8001'", "leads to no address"),
    _one("DaskGateway.address", "''", "must be host:port"),
    _one("Proxy.address", "'nonsense'", "must be host:port"),
    _one("Proxy.address", "'10.0.0.300:80'", "must be host:port"),
    _one("Proxy.address", "'*:8000'", "must be host:port"),
    _one("Proxy.address", "':8000'", "tls_cert"),
    _one("Proxy.address", "'0.0.0.0:8000'", "insecure_ok"),
    _one("Proxy.address", "'203.0.113.7:0'; c.Proxy.insecure_ok = True", "no address of this"),
    _one("Proxy.admin_address", "'9101'", "must be host:port"),
    _one("Proxy.admin_address", "'203.0.113.7:9101'", "no address of this machine"),
    Wrong(
        "c.Proxy.address = '127.0.0.1:18031'; c.DaskGateway.address = '127.0.0.1:18031'",
        ("c.Proxy.address",),
        "c.DaskGateway.address; name another port",
    ),
    _one("DaskGateway.agent_address", "'http://gateway:8001'", "agents would send their tokens"),
    _one("DaskGateway.agent_address", "'gateway:8001'", "did you mean https://gateway:8001?"),
    _one("DaskGateway.agent_address", "'https://'", "must be https://host:port"),
    _one("DaskGateway.agent_address", "'https://host:x'", "must be https://host:port"),
    _one("DaskGateway.agent_address", "'https://host:8001/grpc'", "nothing follows the port"),
    _one("DaskGateway.agent_address", "'unix:run/x.sock'", "begins with one /"),
    _one("DaskGateway.public_url", "'dask.example.org'", "did you mean https://dask.example.org?"),
    _one("DaskGateway.public_url", "'dask.example.org:8000'", "did you mean https://dask"),
    _one("DaskGateway.public_url", "'ftp://dask.example.org'", "https://host"),
    _one("DaskGateway.public_url", "'https://dask.example.org/a b'", "/a b"),
    _one("DaskGateway.public_url", "'https://user:pw@dask.example.org'", "must look like"),
    _one("DaskGateway.public_url", "'https://dask.example.org?x=1'", "nothing follows"),
    _one("DaskGateway.public_url", "'https://'", "must look like"),
    _one("Proxy.prefix", "'no slash'", "must look like /services/daskgateway, not 'no slash'"),
    _one("Proxy.prefix", "'services/dask'", "'services/dask'"),
    _one("Proxy.prefix", "'/a//b'", "'/a//b'"),
    _one("Proxy.trusted_proxies", "['10.0.0.0/99']", "'10.0.0.0/99'"),
    _one("Proxy.trusted_proxies", "['10.0.0.1/8']", "write 10.0.0.0/8"),
    _one("Proxy.trusted_proxies", "['nginx']", "'nginx'"),
    _one("Proxy.allowed_origins", "['hub.example.org']", "did you mean https://hub.example.org?"),
    _one("Proxy.allowed_origins", "['https://hub.example.org/']", "nothing follows"),
    _one("Proxy.allowed_origins", "['*']", "'*'"),
    _one("Proxy.scheduler_networks", "['10.0.0.0/99']", "'10.0.0.0/99'"),
    _one("Proxy.scheduler_networks", "['10.20.0.1/16']", "write 10.20.0.0/16"),
    _one("Proxy.scheduler_networks", "['nodes']", "'nodes'"),
    _one("Proxy.user", "'no-such-account'", "no-such-account"),
]

FILES = [
    _one("DaskGateway.state_dir", "''", "must name a directory"),
    _one("DaskGateway.state_dir", "'/proc/daskgateway'", "nothing can be made there"),
    _one("DaskGateway.state_dir", "'{0}/key.pem'", "no directory"),
    _one("DaskGateway.state_dir", "'{0}/key.pem/state'", "no directory"),
    _one("DaskGateway.state_dir", "'~no-such-user/state'", "~no-such-user"),
    _one("DaskGateway.database", "'sqlite://'", "sqlite:////path/to/file"),
    _one("DaskGateway.database", "'sqlite:///'", "the path is missing"),
    _one("DaskGateway.database", "'sqlite:///gateway.db'", "must begin with /"),
    _one("DaskGateway.database", "'{0}/gateway.db'", "sqlite:////path/to/file"),
    _one("DaskGateway.database", "'mysql://host/gateway'", "sqlite:////path/to/file"),
    _one("DaskGateway.database", "'sqlite:///{0}/folder'", "is a directory"),
    _one("DaskGateway.database", "'sqlite:///{0}/x.db?mode=ro'", "nothing follows the path"),
    _one("DaskGateway.database", "'sqlite:////proc/no.db'", "/proc"),
    _one("DaskGateway.database", "'sqlite:///{0}/garbage.pem'", "no SQLite database"),
    _one("DaskGateway.database", "'sqlite:///{0}/newer.db'", "schema version 99"),
    _one("DaskGateway.database", "'sqlite:///{0}/strange.db'", "another program"),
    Wrong("c.DaskGateway.tls_cert = '{0}/cert.pem'", (CERT,), "both or none"),
    Wrong("c.DaskGateway.tls_key = '{0}/key.pem'", (CERT,), "both or none"),
    Wrong(
        f"{NAMED}{TLS}{CERT} = '{{0}}/none.pem'",
        (CERT,),
        "there is no such file",
    ),
    Wrong(
        f"{NAMED}{TLS}{KEY} = '{{0}}/other.pem'",
        (KEY,),
        "not the key of",
    ),
    Wrong(
        f"{NAMED}{TLS}{KEY} = '{{0}}/locked.pem'",
        (KEY,),
        "passphrase",
    ),
    Wrong(
        f"{NAMED}{TLS}{KEY} = '{{0}}/cert.pem'",
        (KEY,),
        "no private key",
    ),
    Wrong(
        f"{NAMED}{TLS}{CA} = '{{0}}/none.pem'",
        (CA,),
        "no such file",
    ),
    Wrong(
        f"{NAMED}{TLS}{CA} = '{{0}}/garbage.pem'",
        (CA,),
        "no certificate",
    ),
    Wrong(
        f"{NAMED}{TLS}{CA} = '{{0}}/strange.pem'",
        (CERT,),
        "would not accept",
    ),
    Wrong(
        f"{TLS}{CA} = '{{0}}/ca.pem'",
        (CERT,),
        "agent_address is not set",
    ),
    Wrong(
        f"{NAMED}{TLS}{CA} = '{{0}}/ca.pem'; {CERT} = '{{0}}/expired.pem'",
        (CERT,),
        "expired",
    ),
    Wrong("c.Proxy.tls_cert = '{0}/cert.pem'", (EDGE_CERT,), "both or none"),
    Wrong(f"{PUBLIC}'{{0}}/none.pem', '{{0}}/key.pem'", (EDGE_CERT,), "there is no such file"),
    Wrong(f"{PUBLIC}'{{0}}/cert.pem', '{{0}}/none.pem'", (EDGE_KEY,), "there is no such file"),
    Wrong(f"{PUBLIC}'{{0}}/cert.pem', '{{0}}/other.pem'", (EDGE_KEY,), "not the key of"),
    Wrong(f"{PUBLIC}'{{0}}/cert.pem', '{{0}}/locked.pem'", (EDGE_KEY,), "passphrase"),
    Wrong(f"{PUBLIC}'{{0}}/garbage.pem', '{{0}}/key.pem'", (EDGE_CERT,), "no certificate"),
    Wrong(f"{PUBLIC}'{{0}}/folder', '{{0}}/key.pem'", (EDGE_CERT,), "is a directory"),
    Wrong(f"{PUBLIC}'~/cert.pem', '{{0}}/key.pem'", (EDGE_CERT,), "~ is not replaced"),
    _one("PasswordAuthenticator.users_file", "'{0}/none'", "No such file"),
    _one("PasswordAuthenticator.users_file", "'{0}/garbage.pem'", "line 1: must be user:hash"),
    _one("PasswordAuthenticator.users_file", "'{0}/folder'", "directory"),
    Wrong(
        "c.PasswordAuthenticator.users = {{}}",
        ("c.PasswordAuthenticator.users",),
        "nobody could sign in",
    ),
    _one("LocalBackend.root", "''", "must name a directory"),
    _one("LocalBackend.root", "'/proc/local'", "nothing can be made there"),
    _one("LocalBackend.root", "'{0}/key.pem/local'", "no directory"),
]

JOBS = [
    Wrong(
        "c.DaskGateway.backends = ['yarn']",
        ("c.YarnBackend.resourcemanager_urls",),
        "web address",
    ),
    _yarn("resourcemanager_urls", "['rm:8088']", "must look like http://"),
    _yarn("tag", "'A-b'", "must match"),
    _yarn("queue", "'a queue'", "must be the name of a queue"),
    _yarn("node_label", "'a b'", "must be letters, digits"),
    _yarn("archive", "'2026'", "there is no archive '2026'"),
    _yarn("archives", "{{'x': '/nowhere/x.tar.gz'}}", "/nowhere/x.tar.gz"),
    _yarn("files", "{{'a/b': 'hdfs:///b'}}", "must be a plain name"),
    _yarn("application_tags", "['a b']", "without spaces"),
    _yarn("environment", "{{'a-b': '1'}}", "is no name of a variable"),
    _yarn("commands_directory", "'/nowhere'", "no command /nowhere/yarn"),
    Wrong(f"{YARN}keytab = '/etc/x'", ("c.YarnBackend.principal",), "together"),
    _slurm("identity", "'nobody'", "'nobody'"),
    Wrong(f"{SLURM}identity = 'user-token'", ("c.SlurmBackend.rest_url",), "address of slurmrestd"),
    Wrong(
        f"{SLURM}identity = 'user-token'; c.SlurmBackend.rest_url = 'http://s:1';"
        " c.SlurmBackend.rest_version = '38'",
        ("c.SlurmBackend.rest_version",),
        "must look like v0.0.38, not '38'",
    ),
    Wrong(
        f"{SLURM}identity = 'sudo'; c.SlurmBackend.launcher = '{{0}}/none'",
        ("c.SlurmBackend.launcher",),
        "no program",
    ),
    _slurm("tag", "'a-b'", "must match"),
    _slurm("shell", "''", "such as /bin/sh, not ''"),
    _slurm("root", "'/proc/x'", "nothing can be made"),
    _slurm("time_limit", "'2hours'", "'2hours' is no time"),
    _slurm("directives", "['exclusive']", "'exclusive' is no option of sbatch"),
    _slurm("directives", "['--job-name=x']", "set by the gateway itself"),
    _slurm("partition", "'-p'", "begins with no '-'"),
    _slurm("gres", "'gpu\\n1'", "printable"),
    _slurm("log_directory", "'/x/{{usr}}'", "{usr} is replaced by nothing"),
    _slurm("staging_directory", "'/x/{{host}}'", "{host} is replaced by nothing"),
    _slurm("scheduler_settings", "{{'tme_limit': '7-0'}}", "did you mean time_limit?"),
    _slurm("scheduler_settings", "{{'time_limit': 'long'}}", "'long' is no time"),
    _slurm("scheduler_settings", "{{'partition': 5}}", "partition"),
    _slurm("setup", "5", "5"),
    _slurm("command_timeout_s", "0", "0"),
    _slurm("max_array_size", "0", "0"),
    _pbs("dialect", "'pbspro'", "'pbspro'"),
    _pbs("queue", "'long;rm'", "characters other than"),
    _pbs("directives", "['-N', 'name']", "set by the gateway itself"),
    _pbs("scheduler_settings", "{{'wall_time': '1'}}", "did you mean walltime?"),
]

OPTIONS = [
    _options("Float('worker_cores')", "list"),
    _options("{{'worker_cores': Float('worker_cores')}}", "list"),
    _options("[object()]", "is no field"),
    _options("['worker_cores']", "is no field"),
    _options("[('worker_cores', 1)]", "is no field"),
    _options("[Float]", "is no field"),
    _options("[Float('a b')]", "identifier"),
    _options("[Float('x', 1), Float('x', 2)]", "another of that name"),
    _options("[Float('x', 'one')]", "its default 'one' must be a number"),
    _options("[Integer('x', 5, maximum=4)]", "must be at most 4"),
    _options("[Text('x', pattern='[')]", "no regular expression"),
    _options("[Select('f', (1, 2, 3), 1)]", "its choices must be texts"),
    _options("[Select('f', (), '')]", "at least one"),
    _options("[Select('f', ('a', 'b'), 'c')]", "must be one of a, b"),
    _options("[Select('f', 'ab', 'a')]", "its choices must be texts"),
    _options("[Mapped('x', {{'A': 1}})]", "must map texts to texts"),
    _options("[Bool('x', 'yes')]", "must be true or false"),
    _options("[Bool('x', label=5)]", "its label must be a text"),
    # of a setting's name
    _options("[Float('worker_threads')]", "option 'worker_threads'"),
    _options("[Float('worker_threads', 2.5)]", "2.5"),
    _options("[Text('worker_cores', '2')]", "'2'"),
    _options("[Text('worker_threads')]", "option 'worker_threads'"),
    _options("[Text('worker_memory', 'much')]", "amount of memory"),
    _options("[Bool('worker_threads')]", "option 'worker_threads'"),
    _options("[Bool('worker_memory')]", "option 'worker_memory'"),
    _options("[Text('worker_nanny', 'yes')]", "option 'worker_nanny'"),
    _options("[Text('environment', 'A=1')]", "option 'environment'"),
    _options("[Integer('scheduler_host', 1)]", "option 'scheduler_host'"),
    _options("[Integer('python', 3)]", "option 'python'"),
    _options("[Integer('worker_cores', 0)]", "option 'worker_cores'"),
    _options("[Select('worker_memory', ('small', 'large'), 'small')]", "'small'"),
    _options("[Select('worker_memory', ('1 GiB', 'all'), '1 GiB')]", "'all'"),
    _options("[Integer('max_workers', 3)]", "no option can set that setting"),
    _options("[Float('idle_timeout_s', 3)]", "no option can set that setting"),
    Wrong(
        f"{FIELDS}[Float('time_limit', 60)]; {SLURM}partition = 'cpu'",
        ("c.ClusterConfig.options",),
        "option 'time_limit'",
    ),
    Wrong(
        f"{FIELDS}[Integer('partition', 1)]; {SLURM}partition = 'cpu'",
        ("c.ClusterConfig.options",),
        "option 'partition'",
    ),
    Wrong(
        f"{FIELDS}[Select('time_limit', ('1:00:00', 'long'), '1:00:00')]; {SLURM}partition = 'cpu'",
        ("c.ClusterConfig.options",),
        "'long' is no time",
    ),
    Wrong(
        f"{FIELDS}[Text('walltime', 'a b')]; {PBS}queue = 'q'",
        ("c.ClusterConfig.options",),
        "option 'walltime'",
    ),
]

SYNTAX = [
    Wrong("raise ValueError('oops')", (), "line 2: ValueError: oops"),
    Wrong("c.Proxy.address = (", (), "line 2"),
    Wrong("import no_such_module", (), "no_such_module"),
    Wrong("c.Proxy = {{'address': 'x'}}", (), "line 2"),
    Wrong("c.Proxy.allowed_origins.apend('x')", (), "apend"),
]

TOGETHER = [
    Wrong(
        "c.DaskGateway.adress = 'x'; c.DaskGateway.address = 'nonsense'; c.Proxy.prefix = 'x';"
        " c.ClusterConfig.worker_memory = 'much'; c.DaskGateway.backends = ['local', 'nope'];"
        " c.PasswordAuthenticator.users = {{}}; c.LocalBackend.root = '/proc/x';"
        " c.Proxy.tls_cert, c.Proxy.tls_key = '{0}/none.pem', '{0}/key.pem';"
        " c.DaskGateway.database = 'sqlite://'; c.Proxy.admin_address = '203.0.113.7:1'",
        (
            "c.DaskGateway.adress",
            "c.DaskGateway.address",
            "c.Proxy.prefix",
            "c.ClusterConfig.worker_memory",
            "c.DaskGateway.backends",
            "c.PasswordAuthenticator.users",
            "c.LocalBackend.root",
            "c.Proxy.tls_cert",
            "c.DaskGateway.database",
            "c.Proxy.admin_address",
        ),
    ),
]

WRONG = [*MET, *NAMES, *TYPES, *ADDRESSES, *FILES, *JOBS, *OPTIONS, *SYNTAX, *TOGETHER]

# what the real `serve` is tried with: of each kind some
SERVED = [
    ADDRESSES[0],
    ADDRESSES[5],
    ADDRESSES[16],
    ADDRESSES[23],
    FILES[9],
    FILES[13],
    FILES[19],
    FILES[24],
    FILES[30],
    FILES[38],
    FILES[40],
    JOBS[3],
    OPTIONS[18],
    TOGETHER[0],
]
