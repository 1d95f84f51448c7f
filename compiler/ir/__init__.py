"""The intermediate representation: typed SSA programs, their text form, verifier and interpreter."""
