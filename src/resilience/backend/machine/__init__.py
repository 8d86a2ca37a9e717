r"""The machine under a kind cluster's nodes: what is done to whole nodes is done here, by Docker, from outside of all.

It is an agent like those on the nodes (`resilience.agent.node`): one folder and one daemon for each injection, which
outlives whoever asked for it and ends it when its time to live is over. Only its primitives are other ones. What is
done to a cluster's nodes and pods by its own API (a drain, a deletion, …) is done here too, for the same reason::

    python -m resilience.backend.machine apply|probe|undo|open \
        STATE STACK CLUSTER CONTEXT KUBECONFIG HOST,HOST…    one line of JSON

``STACK`` is what people ask for the cluster by (``--stack``). Where that is not ``kind`` nodes are no containers of
this machine: what is done by the API goes on, and what would stop a node is refused.
"""
