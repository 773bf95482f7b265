-- When the customer asked to be called, while that call is still to be made; such contacts come before the others.
ALTER TABLE campaign_contacts ADD COLUMN callback_at INTEGER;
CREATE INDEX campaign_contacts_callbacks ON campaign_contacts (campaign, next_at)
    WHERE callback_at IS NOT NULL AND state = 'ready';
