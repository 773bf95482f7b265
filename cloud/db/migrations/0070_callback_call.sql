-- In which call the customer asked to be called at `callback_at`.
ALTER TABLE campaign_contacts ADD COLUMN callback_call TEXT;
