# Copy beside your recordings and run `make -f dataset.mk`. Equal content is not touched, so a second run does nothing.
RECORDINGS ?= recordings
DATASET ?= dataset

$(DATASET)/pairs.json: $(DATASET).inventory.json
	choreo pair $< -o $(DATASET) > /dev/null || [ $$? -eq 3 ]

# The inventory is cheap to refresh and keeps its time when nothing changed.
$(DATASET).inventory.json: FORCE
	choreo discover -q $(RECORDINGS) -o $@ || [ $$? -eq 3 ]

.PHONY: FORCE
FORCE:
