"""The example tables that the package ships, each with its source in `prefdensity.readers`."""
