"""Questions about arrays and lakes: pairs, passes shared out, records, forecasts."""
