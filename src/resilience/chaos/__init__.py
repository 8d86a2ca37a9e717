"""The actions and probes that experiments call, and the launch of the Chaos Toolkit."""
