"""Facts and relations: read, checked, split, translated and downloaded."""
