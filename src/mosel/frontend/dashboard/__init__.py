"""The dashboard: one page that needs nothing from elsewhere, and the state that it asks for every second."""
