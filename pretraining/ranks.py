"""Who this process is among the ranks: the launchers' variables mapped to RANK, LOCAL_RANK, WORLD_SIZE,
MASTER_ADDR, MASTER_PORT.

`deepspeed` and `torchrun` set them; `srun`, OpenMPI's and MPICH's `mpiexec` set their own names, which are mapped
here before torch is asked. A process started by none of them is the only rank.

Steps: (1) `map_rank_variables` fills in what is missing; (2) `refuse_partial_launch` ends a run that would train on
fewer tasks than the scheduler allocated.
"""

import re
import socket
from collections.abc import MutableMapping

# (rank, local rank, world size) by launcher. Slurm's count only inside a step: a batch script has SLURM_PROCID=0 too.
SCHEMES = (
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PALS_LOCAL_RANKID", "PMI_SIZE"),
    ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"),
)
DEFAULT_PORT = 29500


def map_rank_variables(environment: MutableMapping[str, str]) -> None:
    """Set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in `environment` where the launcher did not."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        rank, local_rank, world_size = "0", "0", "1"
        for names in SCHEMES:
            if names[0] == "SLURM_PROCID" and "SLURM_STEP_ID" not in environment:
                continue
            if all(name in environment for name in names):
                rank, local_rank, world_size = (environment[name] for name in names)
                break
        environment.update(RANK=rank, LOCAL_RANK=local_rank, WORLD_SIZE=world_size)
    environment.setdefault("LOCAL_RANK", environment["RANK"])
    environment.setdefault("MASTER_ADDR", _first_host(environment))
    if environment["WORLD_SIZE"] == "1":
        environment.setdefault("MASTER_PORT", str(_free_port()))  # nobody else has to find it
    # A port of the job's own, so that two jobs on one node do not meet.
    job = re.sub(r"\D", "", environment.get("SLURM_JOB_ID", "")) or "0"
    environment.setdefault("MASTER_PORT", str(DEFAULT_PORT + int(job) % 10_000))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _first_host(environment: MutableMapping[str, str]) -> str:
    """The host of rank 0: the launching node under `srun`, this machine otherwise."""
    if "SLURM_STEP_ID" not in environment:
        return "127.0.0.1"
    hosts = environment.get("SLURM_STEP_NODELIST", "")
    # The list is packed: rack[1-2]-node[04-05,07],gpu1. Its first entry, with the first number of each bracket.
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts).group()
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first) or "127.0.0.1"


def refuse_partial_launch(environment: MutableMapping[str, str]) -> None:
    """Raise ValueError where several nodes are allocated and this is the only rank: the rest would idle."""
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", environment.get("SLURM_NNODES", "1")))
    if nodes > 1 and int(environment["WORLD_SIZE"]) == 1:
        raise ValueError(
            f"{nodes} nodes are allocated but this run has one rank: start it with srun (see launch/slurm.sbatch)"
        )
