"""The no-JIT proof: a served tree is started in a sealed child process and watched from outside."""
