"""What is to be scanned: hosts and ports as numbers.

Text becomes spans and boxes (`hosts`, `regions`, `names`, `ports`, `popular`), what must not be scanned is taken out
(`special`, `choice`), and what is left is one numbered space (`targets`), walked in a keyed order (`permutation`).
"""
