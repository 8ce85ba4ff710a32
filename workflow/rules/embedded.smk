# How the embedded CLIP was made; not part of the default target. About an hour on 2 cores:
#   snakemake --cores 2 train_embedded
# It overwrites the weights in the repository, and goes on from its checkpoint when it is interrupted.


rule train_embedded:
    output:
        touch("results/embedded/trained"),
    log:
        "results/embedded/train.log",
    benchmark:
        "results/embedded/train.tsv"
    conda:
        "../../envs/network.yaml"
    threads: 8  # or what --cores allows
    resources:
        mem_mb=6000,
    params:
        checkpoint="results/embedded/checkpoint.safetensors",
        code=code("train_embedded.py"),
    script:
        "../scripts/train_embedded.py"
