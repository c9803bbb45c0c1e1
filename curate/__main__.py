"""`python -m curate`, which torchrun needs: torchrun --nproc-per-node 2 -m curate validate …"""

from curate.cli.app import main

if __name__ == "__main__":
    main()
