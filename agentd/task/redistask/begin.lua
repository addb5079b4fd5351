-- ARGV 2 a name for this call
-- Gives the newest entry of the stream as {ID, {field, value, ...}}. A stream that is no more begins anew, by an event of no task.
if not newest() then
  tell(ARGV[2], '', 0, '')
end
return newest()
