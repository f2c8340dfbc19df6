/*---
description: >
  What billing, the CRM and the invoices say each organisation pays a month, on the latest day, the greatest difference
  first. Empty = it says nothing. The company's differences stand in hub.metrics for every day.
grain: [org_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  in_scope: {type: BOOLEAN, meaning: "one of its contracts is in scope of the renewal pipeline"}
  billing_mrr: {type: "DECIMAL(18,2)", meaning: "MRR by billing"}
  crm_mrr: {type: "DECIMAL(18,2)", meaning: "MRR by the CRM's record"}
  contract_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of its CRM contracts, which billing does not know"}
  invoiced_mrr: {type: "DECIMAL(18,2)", meaning: "a month of what was invoiced for the day"}
  deal_mrr: {type: "DECIMAL(18,2)", meaning: "MRR by its renewal deals"}
  crm_difference: {type: "DECIMAL(18,2)", meaning: "crm_mrr - billing_mrr"}
  invoice_difference: {type: "DECIMAL(18,2)", meaning: "invoiced_mrr - billing_mrr"}
  deal_difference: {type: "DECIMAL(18,2)", meaning: "deal_mrr less the MRR of the contracts of these deals"}
  missing: {type: "VARCHAR[]", meaning: "which of them should say something and does not: billing, crm, invoices"}
  has_proration: {type: BOOLEAN, meaning: "an invoice has a proration that covers the day, which explains a difference"}
  largest_difference: {type: "DECIMAL(18,2)", meaning: "the greatest of the differences, without its sign; what only one of them says counts whole", not_null: true}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence"}
order_by: [largest_difference DESC, org_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    t.as_of,
    t.org_id,
    t.name,
    t.owner_name,
    t.tier,
    t.in_scope,
    t.billing_mrr,
    t.crm_mrr,
    t.contract_mrr,
    t.invoiced_mrr,
    t.deal_mrr,
    t.crm_difference,
    t.invoice_difference,
    t.deal_difference,
    t.missing,
    t.has_proration,
    CAST(
        coalesce(
            greatest(
                abs(t.crm_difference),
                abs(t.invoice_difference),
                abs(t.deal_difference),
                CASE WHEN len(t.missing) > 0 THEN greatest(abs(t.billing_mrr), abs(t.crm_mrr), abs(t.invoiced_mrr)) END
            ),
            0
        ) AS DECIMAL(18, 2)
    ) AS largest_difference,
    t.hubspot_url,
    t.why
FROM marts.tie_out AS t
INNER JOIN latest AS l ON l.as_of = t.as_of AND l.as_of = t.known_at
