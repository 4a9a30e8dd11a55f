"""Parameter sets: what research hands to a plant, from draft to withdrawal."""
