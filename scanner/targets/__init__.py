"""What a scan is about: hosts and ports as numbers.

`spec` reads what users write and turns it into blocks of addresses. `special` takes out special-purpose
addresses and guards against scans of very many public hosts. `hostspace` numbers what is left, and `permutation`
gives the order in which the numbers are probed. `ports` reads port lists and knows the names of services.
"""
