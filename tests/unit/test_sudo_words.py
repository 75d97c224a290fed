"""What sudo leaves out of the environment is told with the line of sudoers that keeps it."""

from __future__ import annotations

import getpass

import pytest

from gateway.backends.batch.commands import Answer
from gateway.backends.batch.identity import SudoIdentity
from gateway.backends.contract import BackendUnavailable


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
        "sbatch: error: fetch_config: DNS SRV lookup failed\n"
        "sbatch: error: _establish_config_source: failed to fetch config\n"
        "sbatch: fatal: Could not establish a configuration source\n",
        "squeue: error: s_p_parse_file: unable to status file /etc/slurm/slurm.conf: No such file"
        " or directory, retrying in 1sec up to 60sec\n",
        "scancel: fatal: Unable to process configuration file\n",
    ],
)
def test_a_slurm_conf_that_sudo_drops_is_told_with_env_keep(words: str) -> None:
    who = SudoIdentity("sudo", "/usr/libexec/launcher", section="c.SlurmBackend")
    with pytest.raises(BackendUnavailable) as caught:
        who.judged("alice", Answer(1, "", words))
    line = f'Defaults:{getpass.getuser()} env_keep += "SLURM_CONF"'
    assert "the gateway's set-up is at fault, not the job" in str(caught.value)
    assert line in str(caught.value)


def test_what_slurm_itself_refuses_is_the_jobs() -> None:
    who = SudoIdentity("sudo", "/usr/libexec/launcher", section="c.SlurmBackend")
    refused = Answer(1, "", "sbatch: error: Batch job submission failed: Invalid qos\n")
    assert who.judged("alice", refused) is refused
