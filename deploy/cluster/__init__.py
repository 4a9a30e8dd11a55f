"""A Kubernetes control plane without a container engine, on which charts are really installed."""
