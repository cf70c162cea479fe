"""Campaigns of Galaxy Zoo and their decision trees."""
