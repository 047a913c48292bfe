"""Why a campaign's opens and clicks were judged as they were: queries, and the answer in words."""
