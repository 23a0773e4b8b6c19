"""One module per subcommand: arguments, one call into the domain, one manifest out."""
