"""The ClientApp that ``flwr run`` loads; all of it is in the installed package."""

from experiments.backends.nodes import client

app = client()
