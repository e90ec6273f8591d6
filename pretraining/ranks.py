"""Who this process is among the ranks: the launchers' variables mapped to RANK, LOCAL_RANK, WORLD_SIZE,
MASTER_ADDR, MASTER_PORT.

`deepspeed` and `torchrun` set them; `srun`, `jsrun`, OpenMPI's and MPICH's `mpiexec` set their own names, which are
mapped here before torch is asked. A process started by none of them is the only rank.

Steps: (1) `map_rank_variables` fills in what is missing; (2) `refuse_partial_launch` ends a run that would train on
fewer tasks than the scheduler allocated.
"""

import re
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# (rank, local rank, world size) by launcher. Slurm's count only inside a step: a batch script has SLURM_PROCID=0 too.
SCHEMES = (
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"),
    ("PMI_RANK", "PALS_LOCAL_RANKID", "PMI_SIZE"),
    ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"),
)
# How many ranks a launcher says that this node has.
LOCAL_SIZES = (
    *("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "JSM_NAMESPACE_LOCAL_SIZE"),
    *("MPI_LOCALNRANKS", "PALS_LOCAL_SIZE"),
)
# Files with the hosts of a job, one a line, or one a line and rank.
HOST_FILES = ("PBS_NODEFILE", "LSB_DJOB_HOSTFILE")
DEFAULT_PORT = 29500


def place_of(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """(rank, local rank, world size) as the launcher says; a process started by none is the only rank."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return environment["RANK"], environment.get("LOCAL_RANK", environment["RANK"]), environment["WORLD_SIZE"]
    for names in SCHEMES:
        if names[0] == "SLURM_PROCID" and "SLURM_STEP_ID" not in environment:
            continue
        if all(name in environment for name in names):
            rank, local_rank, world_size = (environment[name] for name in names)
            return rank, local_rank, world_size
    return "0", "0", "1"


def map_rank_variables(environment: MutableMapping[str, str]) -> None:
    """Set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in `environment` where the launcher did not."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        environment.update(zip(("RANK", "LOCAL_RANK", "WORLD_SIZE"), place_of(environment), strict=True))
    environment.setdefault("LOCAL_RANK", environment["RANK"])
    if "MASTER_ADDR" not in environment:
        environment["MASTER_ADDR"] = _first_host(environment)
        here = ranks_here(environment)
        if environment["MASTER_ADDR"] == "127.0.0.1" and here and here < int(environment["WORLD_SIZE"]):
            raise ValueError(
                f"{here} of {environment['WORLD_SIZE']} ranks are on this host, and nothing says where rank 0 is: set "
                "MASTER_ADDR to its host for all ranks (mpiexec -x MASTER_ADDR=..., or -genv MASTER_ADDR ...)"
            )
    if environment["WORLD_SIZE"] == "1":
        environment.setdefault("MASTER_PORT", str(_free_port()))  # nobody else has to find it
    # A port of the job's own, so that two jobs on one node do not meet.
    job = re.sub(r"\D", "", environment.get("SLURM_JOB_ID", "")) or "0"
    environment.setdefault("MASTER_PORT", str(DEFAULT_PORT + int(job) % 10_000))


def ranks_here(environment: MutableMapping[str, str]) -> int | None:
    """How many ranks the launcher says that this host has, where it says so."""
    return next((int(environment[name]) for name in LOCAL_SIZES if environment.get(name, "").isdecimal()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _first_host(environment: MutableMapping[str, str]) -> str:
    """The host of rank 0: the first of the step or job where a scheduler lists them, this machine otherwise."""
    if "SLURM_STEP_ID" not in environment:
        return next(iter(_hosts_of_job(environment)), "127.0.0.1")
    hosts = environment.get("SLURM_STEP_NODELIST", "")
    # The list is packed: rack[1-2]-node[04-05,07],gpu1. Its first entry, with the first number of each bracket.
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts).group()
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first) or "127.0.0.1"


def _hosts_of_job(environment: MutableMapping[str, str]) -> list[str]:
    """The hosts that PBS or LSF gave the job, each once, in order; LSF's batch host has no ranks."""
    for name in HOST_FILES:
        path = Path(environment.get(name, ""))
        if path.is_file():
            hosts = path.read_text(encoding="utf-8").split()
            return list(dict.fromkeys(host for host in hosts if "batch" not in host))
    return []


def refuse_partial_launch(environment: MutableMapping[str, str]) -> None:
    """Raise ValueError where several nodes are allocated and all ranks are on this one: the rest would idle."""
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", environment.get("SLURM_NNODES", "0")))
    nodes = nodes or len(_hosts_of_job(environment))
    if nodes <= 1:
        return
    ranks, here = int(environment["WORLD_SIZE"]), ranks_here(environment)
    # A launcher that says how many ranks are here is believed; srun says how many nodes its step has.
    nodes_of_step = int(environment.get("SLURM_STEP_NUM_NODES", nodes)) if "SLURM_STEP_ID" in environment else nodes
    if ranks == 1 or (here is not None and ranks <= here) or (here is None and nodes_of_step == 1):
        raise ValueError(
            f"{nodes} nodes are allocated but all {ranks} rank(s) of this run are on one: start it with srun or "
            "mpiexec (launch/slurm.sbatch, launch/pbs.sh, launch/lsf.sh), or give deepspeed a --hostfile"
        )
