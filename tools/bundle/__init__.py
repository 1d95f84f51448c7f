"""Signs, packs, moves and describes bundles: `mochi-bundle`."""
