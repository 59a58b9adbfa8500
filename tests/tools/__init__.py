"""Programs that tests build and run, and the script that writes their input files."""
