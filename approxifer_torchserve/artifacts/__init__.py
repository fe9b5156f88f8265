"""What evaluation makes and serving takes: accuracy reports, locators, weights, modules."""
