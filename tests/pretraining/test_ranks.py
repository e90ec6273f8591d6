"""Rank variables of every launcher, as each of them sets them."""

from pathlib import Path

import pytest

from pretraining.ranks import LOCAL_SIZES, map_rank_variables, refuse_partial_launch

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

DEEPSPEED = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29501"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "1234567",
}
BATCH_SCRIPT = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "77"}
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1",
}
MPICH = {"PMI_RANK": "1", "MPI_LOCALRANKID": "1", "PMI_SIZE": "2"}
JSM = {"JSM_NAMESPACE_RANK": "9", "JSM_NAMESPACE_LOCAL_RANK": "3", "JSM_NAMESPACE_SIZE": "12"}
PALS = {"PMI_RANK": "6", "PALS_LOCAL_RANKID": "2", "PMI_SIZE": "8"}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, ("0", "0", "1", "127.0.0.1", "free")),
        (DEEPSPEED, ("3", "1", "4", "node1", "29501")),
        (SRUN, ("5", "1", "8", "gpu07", str(29500 + 4567))),
        (BATCH_SCRIPT, ("0", "0", "1", "127.0.0.1", "free")),
        (OPENMPI, ("2", "0", "4", "10.0.0.1", "29500")),
        (MPICH, ("1", "1", "2", "127.0.0.1", "29500")),
        (PALS, ("6", "2", "8", "127.0.0.1", "29500")),
        (JSM, ("9", "3", "12", "127.0.0.1", "29500")),
        (SRUN | DEEPSPEED, ("3", "1", "4", "node1", "29501")),
        (BATCH_SCRIPT | OPENMPI, ("2", "0", "4", "10.0.0.1", str(29500 + 77))),
        ({"RANK": "1", "WORLD_SIZE": "2"}, ("1", "1", "2", "127.0.0.1", "29500")),
    ],
    ids=[
        "nothing",
        "deepspeed or torchrun",
        "srun",
        "Slurm batch script",
        "OpenMPI",
        "MPICH",
        "PALS",
        "jsrun",
        "deepspeed inside srun",
        "mpiexec inside a batch script",
        "no local rank",
    ],
)
def test_every_launcher_s_variables(environment: dict[str, str], expected: tuple[str, ...]) -> None:
    found = dict(environment)
    map_rank_variables(found)
    *places, port = (found[name] for name in NAMES)
    assert tuple(places) == expected[:-1]
    # A single rank takes any free port: nobody else has to find it.
    assert port == expected[-1] or (expected[-1] == "free" and int(port) > 1024)
    again = dict(found)
    map_rank_variables(again)
    assert again == found


@pytest.mark.parametrize(
    "hosts, first",
    [
        ("node3", "node3"),
        ("node3,node5", "node3"),
        ("node[3-5,9]", "node3"),
        ("node[003,005]", "node003"),
        ("gpu-a[12-13],gpu-b1", "gpu-a12"),
        ("n[1-2].cluster", "n1.cluster"),
        ("rack[1-2]-node[04-05]", "rack1-node04"),
        ("", "127.0.0.1"),
    ],
)
def test_rank_0_s_host_from_slurm_s_list(hosts: str, first: str) -> None:
    environment = SRUN | {"SLURM_STEP_NODELIST": hosts}
    map_rank_variables(environment)
    assert environment["MASTER_ADDR"] == first


def test_two_jobs_on_a_node_have_two_ports() -> None:
    ports = set()
    for job in ("100", "101"):
        environment = SRUN | {"SLURM_JOB_ID": job}
        map_rank_variables(environment)
        ports.add(environment["MASTER_PORT"])
    assert len(ports) == 2 and all(1024 < int(port) < 65536 for port in ports)


def test_all_ranks_of_a_step_agree_on_host_and_port() -> None:
    places = set()
    for rank in range(8):
        environment = SRUN | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % 4)}
        map_rank_variables(environment)
        assert environment["RANK"] == str(rank)
        places.add((environment["MASTER_ADDR"], environment["MASTER_PORT"], environment["WORLD_SIZE"]))
    assert len(places) == 1


@pytest.mark.parametrize("variable", ["SLURM_JOB_NUM_NODES", "SLURM_NNODES"])
def test_ranks_on_one_of_many_nodes_are_refused(variable: str) -> None:
    with pytest.raises(ValueError, match=r"4 nodes are allocated but all 1 rank\(s\) of this run are on one: start it"):
        refuse_partial_launch({variable: "4", "WORLD_SIZE": "1"})
    for local in LOCAL_SIZES:
        with pytest.raises(ValueError, match=r"all 8 rank\(s\)"):  # deepspeed without a hostfile, say
            refuse_partial_launch({variable: "4", "WORLD_SIZE": "8", local: "8"})
        refuse_partial_launch({variable: "4", "WORLD_SIZE": "32", local: "8"})
    refuse_partial_launch({variable: "4", "WORLD_SIZE": "4"})
    refuse_partial_launch({variable: "4", "WORLD_SIZE": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "4"})
    with pytest.raises(ValueError, match=r"all 4 rank\(s\)"):  # srun --nodes=1 in a job of four nodes
        refuse_partial_launch({variable: "4", "WORLD_SIZE": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1"})
    with pytest.raises(ValueError, match=r"all 8 rank\(s\)"):  # torchrun in such a step
        refuse_partial_launch({variable: "4", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8", "SLURM_STEP_ID": "0"})
    refuse_partial_launch({variable: "1", "WORLD_SIZE": "1"})
    refuse_partial_launch({"WORLD_SIZE": "1"})


@pytest.mark.parametrize("variable", ["PBS_NODEFILE", "LSB_DJOB_HOSTFILE"])
def test_hosts_of_pbs_and_lsf(variable: str, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("batch3\nnode7\nnode7\nnode2\nnode2\n")
    environment = MPICH | {variable: str(hosts)}
    map_rank_variables(environment)
    assert environment["MASTER_ADDR"] == "node7"
    with pytest.raises(ValueError, match="2 nodes are allocated"):
        refuse_partial_launch(environment | {"MPI_LOCALNRANKS": "2"})
    hosts.write_text("node7\nnode7\n")
    refuse_partial_launch(environment | {"MPI_LOCALNRANKS": "2"})


def test_jsrun_with_all_ranks_on_one_of_two_hosts_is_refused(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("batch3\nnode7\nnode2\n")
    environment = JSM | {"LSB_DJOB_HOSTFILE": str(hosts), "JSM_NAMESPACE_LOCAL_SIZE": "6"}
    map_rank_variables(environment)
    refuse_partial_launch(environment)
    with pytest.raises(ValueError, match=r"2 nodes are allocated but all 12 rank\(s\)"):
        refuse_partial_launch(environment | {"JSM_NAMESPACE_LOCAL_SIZE": "12"})


def test_mpi_over_several_hosts_must_be_told_where_rank_0_is() -> None:
    with pytest.raises(ValueError, match="2 of 4 ranks are on this host, and nothing says where rank 0 is: set MASTER"):
        map_rank_variables(
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
            | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
        )
    map_rank_variables(MPICH | {"MPI_LOCALNRANKS": "2"})
