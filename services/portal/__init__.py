"""The portal: pages for people, over gRPC alone."""
