"""What depends on the model or the hardware."""

from shared import settings

# The library's threads wait for each other by spinning, for long by default. Where the cores are
# shared, a thread then spins while the one it waits for cannot run: two workers on two cores fell
# from 140 tokens/s together to anything between 1 and 90; so, they keep 125, and one alone loses
# nothing. libgomp reads this when it is loaded, so it is set before anything imports llama_cpp.
settings.suggest("GOMP_SPINCOUNT", "1000")
