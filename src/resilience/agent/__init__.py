"""The Linux fault primitives: one program, with nothing but the standard library, that runs beside a member."""
