"""The reference services of HarmonyFlow under test; they import nothing of the harness."""
