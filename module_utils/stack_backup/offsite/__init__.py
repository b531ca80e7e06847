"""Copies of recovery points at an rclone remote: made, proven, thinned out, and fetched back."""
