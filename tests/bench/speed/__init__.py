"""How fast media are served, beside nginx and beside a proxy that is written without further thought."""
