"""HarmonyFlow resilience harness: what people lose, and for how long, when something fails."""
