"""The customer-success warehouse: HubSpot, Intercom and billing into DuckDB, each night, with all history."""

__version__ = "0.1.0"
