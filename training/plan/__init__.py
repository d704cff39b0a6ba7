"""What many trainings and transfers cost, reckoned from measured speeds, and the jobs that do what is missing."""
