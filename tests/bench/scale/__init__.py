"""What ten thousand, ten million and ten billion media a day take: arithmetic over measured numbers and list prices."""
