"""What the course needs: notebooks made from solutions."""
