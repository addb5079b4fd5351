-- Gives the ID of the newest event. A stream that is no more begins anew, by an event of no task: so every place has an epoch.
return newest() or tell('', 0, '')
