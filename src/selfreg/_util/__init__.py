"""What every room uses: checks of arguments, files, progress, parallel work. Knows no stage of the pipeline."""
