"""Which test files take longest."""

LONGEST = (
    *("slurm/test_executor.py", "test_run.py", "slurm/test_training.py", "test_paper_setups.py"),
    *("slurm/test_rig.py", "wheel/test_without_a_clone.py", "training/test_distributed.py"),
    *("test_bfloat16.py", "evaluation/test_runner.py", "test_debug_presets.py"),
    *("slurm/test_submitit.py", "slurm/test_cluster.py", "gradients/test_extract.py"),
    *("engine/test_engine.py", "training/test_fit.py", "gpu_check/test_gpu_check.py"),
)
"""Files that take longest. They are begun first: a worker takes a whole file, and one that is begun
last is waited for by all others."""
