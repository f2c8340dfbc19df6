"""What the demo portal has before anyone writes a record: people, pipelines and property definitions.

Shapes as `GET /crm/v3/owners`, `/crm/v3/pipelines/{type}` and `/crm/v3/properties/{type}` answer them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hub_pipeline.demo.account import ORGANISATION_OBJECT

PORTAL_CREATED = "2021-03-01T09:00:00Z"


@dataclass(frozen=True, slots=True)
class Owner:
    """A colleague; `role` is what the team means to the models: csm, sales, support or None."""

    id: str
    user_id: int
    given: str
    family: str
    team: str | None
    role: str | None
    archived: bool = False

    @property
    def email(self) -> str:
        return f"{self.given}.{self.family}@northbeam.example".lower()


CSM_MIRA = Owner("71030011", 4410011, "Mira", "Hollenkamp", "Customer Success", "csm")
CSM_JONAS = Owner("71030012", 4410012, "Jonas", "Tideswell", "Customer Success", "csm")
CSM_AYO = Owner("71030013", 4410013, "Ayo", "Brackenridge", "Customer Success", "csm")
SALES_LENA = Owner("71030021", 4410021, "Lena", "Vandermoor", "Sales", "sales")
SALES_TOMAS = Owner("71030022", 4410022, "Tomas", "Ferrantez", "Sales", "sales")
SUPPORT_PIA = Owner("71030031", 4410031, "Pia", "Lundqvall", "Support", "support")
CSM_GONE = Owner("71030009", 4410009, "Hector", "Wainfleet", "Customer Success", "csm", archived=True)
OPS_BEA = Owner("71030041", 4410041, "Bea", "Stonegarth", None, None)

OWNERS: tuple[Owner, ...] = (
    CSM_GONE,
    CSM_MIRA,
    CSM_JONAS,
    CSM_AYO,
    SALES_LENA,
    SALES_TOMAS,
    SUPPORT_PIA,
    OPS_BEA,
)
CSMS: tuple[Owner, ...] = (CSM_MIRA, CSM_JONAS, CSM_AYO)
SELLERS: tuple[Owner, ...] = (SALES_LENA, SALES_TOMAS)

_TEAM_IDS = {"Customer Success": "880001", "Sales": "880002", "Support": "880003"}


def owners() -> list[dict[str, Any]]:
    """All owners, the deactivated one with `archived` true and no `userId`."""
    return [
        {
            "id": owner.id,
            "email": owner.email,
            "type": "PERSON",
            "firstName": owner.given,
            "lastName": owner.family,
            "userId": None if owner.archived else owner.user_id,
            "userIdIncludingInactive": owner.user_id,
            "createdAt": PORTAL_CREATED,
            "updatedAt": "2025-01-15T10:00:00Z",
            "archived": owner.archived,
            "teams": (
                [{"id": _TEAM_IDS[owner.team], "name": owner.team, "primary": True}] if owner.team else []
            ),
        }
        for owner in OWNERS
    ]


def users() -> list[dict[str, Any]]:
    """Everyone who can still log in; the deactivated owner is not among them."""
    return [
        {
            "id": str(owner.user_id),
            "email": owner.email,
            "firstName": owner.given,
            "lastName": owner.family,
            "roleIds": [],
            "superAdmin": owner.team is None,
            "primaryTeamId": _TEAM_IDS[owner.team] if owner.team else None,
            "secondaryTeamIds": [],
        }
        for owner in OWNERS
        if not owner.archived
    ]


#: Stage id, label, probability, closed; the last but one of each pipeline is won, the last is lost.
SALES_STAGES = (
    ("appointmentscheduled", "Appointment scheduled", "0.2", False),
    ("qualifiedtobuy", "Qualified to buy", "0.4", False),
    ("presentationscheduled", "Presentation scheduled", "0.6", False),
    ("contractsent", "Contract sent", "0.9", False),
    ("closedwon", "Closed won", "1.0", True),
    ("closedlost", "Closed lost", "0.0", True),
)
POST_SALES_STAGES = (
    ("renewal_planned", "Renewal planned", "0.6", False),
    ("in_conversation", "In conversation", "0.7", False),
    ("negotiation", "Negotiation", "0.8", False),
    ("contract_sent", "Contract sent", "0.9", False),
    ("legal_hold", "Legal hold", "0.5", False),
    ("renewed", "Renewed", "1.0", True),
    ("not_renewed", "Not renewed", "0.0", True),
)
STAGES = {"default": SALES_STAGES, "post_sales": POST_SALES_STAGES}


def closing_of(pipeline: str, stage: str) -> dict[str, str | None]:
    """What HubSpot calculates from the stage of a deal: whether it is closed, and won."""
    probability, closed = next((p, c) for name, _, p, c in STAGES[pipeline] if name == stage)
    return {
        "hs_is_closed": str(closed).lower(),
        "hs_is_closed_won": str(closed and probability == "1.0").lower(),
    }


def pipelines() -> dict[str, list[dict[str, Any]]]:
    """The sales and the post-sales pipeline of deals."""
    return {
        "deals": [
            _pipeline("default", "Sales pipeline", 0, SALES_STAGES),
            _pipeline("post_sales", "Post-sales pipeline", 1, POST_SALES_STAGES),
        ]
    }


def _pipeline(
    pipeline_id: str, label: str, order: int, stages: tuple[tuple[str, str, str, bool], ...]
) -> dict[str, Any]:
    return {
        "id": pipeline_id,
        "label": label,
        "displayOrder": order,
        "createdAt": PORTAL_CREATED,
        "updatedAt": "2024-02-01T09:00:00Z",
        "archived": False,
        "stages": [
            {
                "id": stage_id,
                "label": stage_label,
                "displayOrder": position,
                "metadata": {"isClosed": str(closed).lower(), "probability": probability},
                "createdAt": PORTAL_CREATED,
                "updatedAt": "2024-02-01T09:00:00Z",
                "archived": False,
                "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
            }
            for position, (stage_id, stage_label, probability, closed) in enumerate(stages)
        ],
    }


_COMMON = (
    ("hs_object_id", "Record ID", "number", "number"),
    ("hs_createdate", "Object create date/time", "datetime", "date"),
    ("hs_lastmodifieddate", "Object last modified date/time", "datetime", "date"),
    ("hubspot_owner_id", "Owner", "enumeration", "select"),
    ("hs_merged_object_ids", "Merged object IDs", "enumeration", "checkbox"),
    ("hs_object_source_label", "Record source", "string", "text"),
)
_PROPERTIES: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    ORGANISATION_OBJECT: (
        *_COMMON,
        ("name", "Name", "string", "text"),
        ("domain", "Domain", "string", "text"),
        ("organisation_id", "Organisation ID", "string", "text"),
        ("tier", "Tier", "enumeration", "select"),
        ("health", "Health", "enumeration", "select"),
        ("members_active", "Active members", "number", "number"),
        ("parent_organisation_id", "Parent organisation", "string", "text"),
        ("joint_plan_payer_id", "Joint plan paid by", "string", "text"),
        ("joint_plan_since", "On the joint plan since", "date", "date"),
        ("joint_plan_seats", "Seats on the joint plan", "number", "number"),
        ("custom_contract_kind", "Custom contract", "enumeration", "select"),
        ("custom_contract_start", "Custom contract start", "date", "date"),
        ("custom_contract_end", "Custom contract end", "date", "date"),
        ("custom_contract_amount", "Custom contract amount", "number", "number"),
        ("custom_contract_seats", "Custom contract seats", "number", "number"),
        ("pending_true_up_mrr", "Pending true-up (MRR)", "number", "number"),
    ),
    "companies": (
        *_COMMON,
        ("name", "Company name", "string", "text"),
        ("domain", "Company domain name", "string", "text"),
        ("createdate", "Create date", "datetime", "date"),
    ),
    "contacts": (
        ("hs_object_id", "Record ID", "number", "number"),
        ("createdate", "Create date", "datetime", "date"),
        ("lastmodifieddate", "Last modified date", "datetime", "date"),
        ("hubspot_owner_id", "Contact owner", "enumeration", "select"),
        ("hs_merged_object_ids", "Merged object IDs", "enumeration", "checkbox"),
        ("hs_object_source_label", "Record source", "string", "text"),
        ("email", "Email", "string", "text"),
        ("firstname", "First name", "string", "text"),
        ("lastname", "Last name", "string", "text"),
        ("jobtitle", "Job title", "string", "text"),
        ("lifecyclestage", "Lifecycle stage", "enumeration", "radio"),
        ("hs_lead_status", "Lead status", "enumeration", "radio"),
        ("is_champion", "Champion", "bool", "booleancheckbox"),
        ("left_company_at", "Left the company on", "date", "date"),
    ),
    "deals": (
        *_COMMON,
        ("dealname", "Deal name", "string", "text"),
        ("pipeline", "Pipeline", "enumeration", "select"),
        ("dealstage", "Deal stage", "enumeration", "radio"),
        ("dealtype", "Deal type", "enumeration", "radio"),
        ("plan", "Plan", "enumeration", "select"),
        ("subscription_id", "Subscription", "string", "text"),
        ("amount", "Amount", "number", "number"),
        ("deal_currency_code", "Currency", "enumeration", "select"),
        ("createdate", "Create date", "datetime", "date"),
        ("closedate", "Close date", "datetime", "date"),
        ("hs_is_closed", "Is deal closed?", "bool", "booleancheckbox"),
        ("hs_is_closed_won", "Is closed won", "bool", "booleancheckbox"),
        ("hs_next_activity_date", "Next activity date", "datetime", "date"),
    ),
    "feedback_submissions": (
        *_COMMON,
        ("hs_survey_type", "Survey type", "enumeration", "select"),
        ("hs_survey_name", "Survey name", "string", "text"),
        ("hs_survey_channel", "Survey channel", "enumeration", "select"),
        ("hs_value", "Response", "string", "text"),
        ("hs_response_group", "Response group", "enumeration", "select"),
        ("hs_content", "Comment", "string", "textarea"),
        ("hs_submission_timestamp", "Submitted at", "datetime", "date"),
    ),
    "notes": (
        *_COMMON,
        ("hs_timestamp", "Activity date", "datetime", "date"),
        ("hs_note_body", "Note", "string", "html"),
    ),
    "tasks": (
        *_COMMON,
        ("hs_timestamp", "Due date", "datetime", "date"),
        ("hs_task_subject", "Task title", "string", "text"),
        ("hs_task_status", "Task status", "enumeration", "select"),
    ),
    "emails": (
        *_COMMON,
        ("hs_timestamp", "Activity date", "datetime", "date"),
        ("hs_email_subject", "Email subject", "string", "text"),
        ("hs_email_direction", "Email direction", "enumeration", "select"),
        ("hs_email_status", "Email send status", "enumeration", "select"),
    ),
    "calls": (
        *_COMMON,
        ("hs_timestamp", "Activity date", "datetime", "date"),
        ("hs_call_title", "Call title", "string", "text"),
        ("hs_call_direction", "Call direction", "enumeration", "select"),
        ("hs_call_status", "Call status", "enumeration", "select"),
    ),
    "meetings": (
        *_COMMON,
        ("hs_timestamp", "Activity date", "datetime", "date"),
        ("hs_meeting_title", "Meeting name", "string", "text"),
        ("hs_meeting_outcome", "Meeting outcome", "enumeration", "select"),
    ),
    # Every portal has these, whether it uses them or not.
    "communications": (
        *_COMMON,
        ("hs_timestamp", "Activity date", "datetime", "date"),
        ("hs_communication_channel_type", "Channel type", "enumeration", "select"),
        ("hs_communication_body", "Communication body", "string", "html"),
    ),
    "tickets": (
        *_COMMON,
        ("subject", "Ticket name", "string", "text"),
        ("content", "Ticket description", "string", "textarea"),
        ("hs_pipeline", "Pipeline", "enumeration", "select"),
        ("hs_pipeline_stage", "Ticket status", "enumeration", "radio"),
    ),
    "line_items": (
        *_COMMON,
        ("name", "Name", "string", "text"),
        ("quantity", "Quantity", "number", "number"),
        ("price", "Unit price", "number", "number"),
        ("amount", "Net price", "number", "number"),
    ),
}
_OPTIONS = {
    "tier": ("A", "B", "C"),
    "plan": ("starter", "team", "business", "enterprise"),
    "dealtype": ("newbusiness", "existingbusiness", "renewal", "upsell"),
    "lifecyclestage": (
        "subscriber",
        "lead",
        "marketingqualifiedlead",
        "salesqualifiedlead",
        "opportunity",
        "customer",
        "evangelist",
        "other",
    ),
    "hs_lead_status": ("ATTEMPTED_TO_CONTACT", "CONNECTED", "OPEN_DEAL", "UNQUALIFIED"),
    "hs_survey_type": ("NPS", "CSAT", "CES"),
    "hs_task_status": ("NOT_STARTED", "IN_PROGRESS", "COMPLETED"),
    "deal_currency_code": ("USD", "EUR"),
    "pipeline": ("default", "post_sales"),
    "dealstage": tuple(stage[0] for stages in STAGES.values() for stage in stages),
    "hubspot_owner_id": tuple(owner.id for owner in OWNERS),
}


def properties() -> dict[str, list[dict[str, Any]]]:
    """Property definitions of every object type of the portal."""
    return {
        object_type: [
            {
                "name": name,
                "label": label,
                "type": kind,
                "fieldType": field_type,
                "description": "",
                "groupName": "information",
                "options": [
                    {"label": value, "value": value, "displayOrder": position, "hidden": False}
                    for position, value in enumerate(_OPTIONS.get(name, ()))
                ],
                "displayOrder": -1,
                "calculated": name.startswith(("hs_is_closed", "hs_merged", "hs_next")),
                "externalOptions": name == "hubspot_owner_id",
                "hasUniqueValue": False,
                "hidden": False,
                "hubspotDefined": name.startswith("hs_"),
                "formField": False,
                "archived": False,
                "createdAt": PORTAL_CREATED,
                "updatedAt": PORTAL_CREATED,
                "modificationMetadata": {
                    "archivable": not name.startswith("hs_"),
                    "readOnlyDefinition": name.startswith("hs_"),
                    "readOnlyValue": name.startswith("hs_"),
                },
            }
            for name, label, kind, field_type in definitions
        ]
        for object_type, definitions in _PROPERTIES.items()
    }
