"""An archive of a store, on an object store."""
