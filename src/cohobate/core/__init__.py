"""The ground floor: files, locks, signals, progress, statistics, the Arrow schema. It knows nothing of distillation."""
